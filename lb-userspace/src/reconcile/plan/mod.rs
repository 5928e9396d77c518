//! The steps from the actual maps to the desired ones.
//!
//! Numbers of services and backends are kept: flows and counters refer to them. A backend that leaves keeps its number
//! until it has no flow left. A table that changes is written beside the old one, and the service is turned to it by one
//! write; the old one stays as `previous` until connections that were opening have shown themselves.
//!
//! Order of the steps: what a record refers to is there before it is, and gone after it.
//!
//! ```text
//! backends ► tables, members, pools, lists ► services ► ranges, listeners ► what is gone, in the order turned round
//! ```

#![deny(clippy::disallowed_methods)]

mod backends;
mod keyed;
mod listeners;
mod services;
mod unused;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lb_common::addr::Addr;
use lb_common::backend::Backend;
use lb_common::limits;
use lb_common::service::{Members, QuicKey, Ranges, Service, Sources};
use thiserror::Error;

use crate::desired::{Desired, Key, Listener, SourcePrefix, Way};

pub use services::TableCache;

/// What the maps hold. Arrays without their records of zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    pub listeners: BTreeMap<Listener, u32>,
    pub ranges: BTreeMap<u32, Ranges>,
    pub services: BTreeMap<u32, Service>,
    pub backends: BTreeMap<u32, Backend>,
    /// By number; empty where the contents are unknown.
    pub tables: BTreeMap<u32, Arc<[u32]>>,
    pub members: BTreeMap<u32, Members>,
    pub pools: BTreeMap<u32, Sources>,
    /// By service and prefix.
    pub sources: BTreeMap<(u32, SourcePrefix), u32>,
    pub quic: BTreeMap<ServerId, u32>,
    /// Addresses that answer pings.
    pub addresses: BTreeSet<Addr>,
}

/// A QUIC server id of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    pub service: u32,
    pub id: [u8; 8],
}

impl From<ServerId> for QuicKey {
    fn from(ServerId { service, id }: ServerId) -> Self {
        Self { id, service }
    }
}

/// What else a plan depends on.
#[derive(Debug, Default)]
pub struct Circumstances {
    pub ways: BTreeMap<IpAddr, Way>,
    /// Backends that no flow refers to.
    pub unused: BTreeSet<u32>,
    /// Backends that left, and whose flows have had all the time they were given.
    pub overdue: BTreeSet<u32>,
    /// Services whose previous table nobody needs any more.
    pub settled: BTreeSet<u32>,
    /// Services all of whose flows are where their table says.
    pub placed: BTreeSet<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The number is given to a new backend.
    ClearCounters(u32),
    WriteBackend(u32, Backend),
    WriteTable(u32, Arc<[u32]>),
    WriteMembers(u32, Members),
    WritePool(u32, Sources),
    WriteSource(u32, SourcePrefix, u32),
    WriteServerId(ServerId, u32),
    WriteService(u32, Service),
    WriteRanges(u32, Ranges),
    WriteListener(Listener, u32),
    WriteAddress(Addr),
    RemoveAddress(Addr),
    RemoveListener(Listener),
    RemoveService(u32),
    RemoveServerId(ServerId),
    RemoveSource(u32, SourcePrefix),
    RemovePool(u32),
    RemoveMembers(u32),
    RemoveRanges(u32),
    RemoveTable(u32),
    /// Nothing refers to the backend any more; the counters of its service go on with what it counted.
    FreeBackend {
        number: u32,
        service: u32,
    },
}

/// Steps in the order they are safe in, and the numbers that result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub services: BTreeMap<Key, u32>,
    pub backends: BTreeMap<(Key, SocketAddr), u32>,
    /// Backends that are no longer wanted and still have flows, by number.
    pub draining: BTreeSet<u32>,
    /// Services whose flows may be elsewhere than their table says from now on: it is another one, or it is asked for other
    /// flows than before.
    pub turned: BTreeSet<u32>,
    /// Services whose table has changed so lately that connections may go by the one before.
    pub turning: BTreeSet<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    #[error("more than {} backends, those that are draining included", limits::BACKENDS)]
    TooManyBackends,
    #[error(
        "more than {} services, counted by family, those whose backends are draining included",
        limits::SERVICES
    )]
    TooManyServices,
    #[error("more than {} services, counted by family, each of which has a table", limits::TABLES)]
    TooManyTables,
    #[error("more than {} listen addresses of one family", limits::LISTENERS)]
    TooManyListeners,
    #[error("more than {} listen addresses with ranges of ports", limits::RANGED)]
    TooManyRanged,
    #[error("more than {} ranges of ports of one address and protocol", lb_common::service::RANGES)]
    TooManyRanges,
    #[error("more than {} prefixes in the lists of sources of all services", limits::SOURCE_PREFIXES)]
    TooManySources,
}

/// # Errors
/// A map is too small for what is desired; then nothing should be changed.
pub fn plan(
    desired: &Desired,
    actual: &Actual,
    circumstances: &Circumstances,
    cache: &mut TableCache,
) -> Result<Plan, PlanError> {
    cache.keep_only(desired);
    let (mut plan, closing) = plan_numbers(desired, actual, circumstances)?;
    let listeners = listeners::plan(desired, actual, &plan)?;
    let keyed = keyed::plan(desired, actual, &plan)?;
    plan.turned.extend(listeners.touched);
    plan.steps.extend(keyed.write);
    services::plan(desired, actual, circumstances, cache, &mut plan)?;
    plan.steps.extend(listeners.write);
    plan.steps.extend(listeners.remove);
    plan.steps.extend(closing);
    let free = unused::plan(actual, circumstances, &plan);
    plan.steps.extend(free.services);
    plan.steps.extend(keyed.remove);
    plan.steps.extend(listeners.free);
    plan.steps.extend(free.rest);
    Ok(plan)
}

/// What [`plan`] would refuse, without the tables, which are what takes time; the plan that is returned has numbers and
/// no steps.
///
/// # Errors
/// As [`plan`].
pub fn check(desired: &Desired, actual: &Actual) -> Result<Plan, PlanError> {
    let (plan, _) = plan_numbers(desired, actual, &Circumstances::default())?;
    listeners::plan(desired, actual, &plan)?;
    keyed::plan(desired, actual, &plan)?;
    if desired.services.len() > limits::TABLES as usize {
        return Err(PlanError::TooManyTables);
    }
    Ok(Plan { steps: Vec::new(), ..plan })
}

/// A plan as far as the backends, and the steps of [`backends::plan`] that come after the tables.
fn plan_numbers(
    desired: &Desired,
    actual: &Actual,
    circumstances: &Circumstances,
) -> Result<(Plan, Vec<Step>), PlanError> {
    let mut plan = Plan { services: services::numbers(desired, actual)?, ..Plan::default() };
    let closing = backends::plan(desired, actual, circumstances, &mut plan)?;
    Ok((plan, closing))
}
