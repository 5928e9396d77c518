//! The data plane as the daemon holds it: what is attached, what is in the maps, and what they should hold.

mod interfaces;
mod leaving;
mod masters;
mod orders;
mod placed;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lb_common::counters::BackendCounters;
use lb_common::service::NO_TABLE;
use thiserror::Error;

use crate::config::model::Config;
use crate::dataplane::DataPlane;
use crate::dataplane::attach::Attached;
use crate::dataplane::expiry::Timeouts;
use crate::dataplane::maps::MapAccessError;
use crate::dataplane::sweep::{Census, Handle};
use crate::desired::{Desired, Family, Key, Reach};
use crate::net::known_ways::KnownWays;
use crate::net::links::Links;
use crate::net::next_hop::Found;
use crate::reconcile::apply::{self, KnownTables};
use crate::reconcile::plan::{self, Actual, Circumstances, Plan, PlanError, Step, TableCache};
use crate::status::Traffic;
use leaving::Leaving;
use masters::Masters;
use orders::Standing;
use placed::Placed;

/// How long connections that were opening when a pool changed are given to show their next packet: a SYN is repeated
/// for about a minute (RFC 9293 section 3.8.3).
const SETTLING: Duration = Duration::from_secs(60);

#[derive(Debug, Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Map(#[from] MapAccessError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

pub(super) struct Forwarding {
    pub(super) plane: DataPlane,
    pub(super) attached: BTreeMap<String, Result<Attached, String>>,
    pub(super) actual: Actual,
    pub(super) plan: Plan,
    pub(super) ways: KnownWays,
    pub(super) census: Census,
    pub(super) expired: u64,
    /// What backends that have left had counted, by number of their service.
    pub(super) retired: BTreeMap<u32, BackendCounters>,
    /// Names of services by number, of those that were removed while backends of theirs drain too.
    pub(super) names: BTreeMap<u32, Key>,
    pub(super) known: KnownTables,
    cache: TableCache,
    /// Empty until they were read.
    links: Links,
    masters: Masters,
    orders: Standing,
    leaving: Leaving,
    placed: Placed,
    /// When the table of a service changed last.
    turned: BTreeMap<u32, Instant>,
    /// Time that flows of a backend that leaves have, by number of the service, of those that were removed too.
    drains: BTreeMap<u32, Option<Duration>>,
}

impl Forwarding {
    pub(super) fn new(plane: DataPlane, sweep: Option<Handle>, timeouts: Timeouts) -> Self {
        Self {
            orders: Standing::new(sweep, timeouts),
            plane,
            attached: BTreeMap::new(),
            actual: Actual::default(),
            plan: Plan::default(),
            ways: KnownWays::default(),
            census: Census::default(),
            expired: 0,
            retired: BTreeMap::new(),
            names: BTreeMap::new(),
            known: KnownTables::default(),
            cache: TableCache::default(),
            links: Links::default(),
            masters: Masters::default(),
            leaving: Leaving::default(),
            placed: Placed::default(),
            turned: BTreeMap::new(),
            drains: BTreeMap::new(),
        }
    }

    /// Brings the maps to what is desired.
    ///
    /// # Errors
    /// Nothing is changed if a map is too small; if one can't be written, the next call goes on.
    pub(super) fn reconcile(&mut self, desired: &Desired, now: Instant) -> Result<(), ReconcileError> {
        self.actual = apply::read(&mut self.plane, &mut self.known)?;
        let circumstances = self.circumstances(now);
        let plan = plan::plan(desired, &self.actual, &circumstances, &mut self.cache)?;
        // Before they are carried out: a step that fails leaves the ones before it done.
        for step in &plan.steps {
            tracing::debug!(?step, "to apply");
            if let Step::WriteService(number, record) = step
                && record.previous != NO_TABLE
                && plan.turned.contains(number)
            {
                self.turned.insert(*number, now);
            }
        }
        if !plan.steps.is_empty() {
            self.orders.renew();
        }
        apply::apply(&mut self.plane, &mut self.known, &plan.steps)?;
        if !plan.steps.is_empty() {
            self.actual = apply::read(&mut self.plane, &mut self.known)?;
        }
        let drains = desired.services.iter();
        self.drains
            .extend(drains.filter_map(|(key, service)| Some((*plan.services.get(key)?, service.drain))));
        self.take(plan, now)?;
        let wanted = desired.services.values().flat_map(|service| &service.backends);
        let wanted = self.with_draining(wanted.map(|backend| backend.address.ip()));
        self.ways.keep_only(&wanted);
        self.orders.give(&self.actual, &self.placed);
        Ok(())
    }

    pub(super) fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.orders.set_timeouts(timeouts);
    }

    /// Takes the numbers of a plan that is carried out, and forgets services that nothing carries any more.
    fn take(&mut self, plan: Plan, now: Instant) -> Result<(), MapAccessError> {
        let carried = self.actual.backends.values().map(|backend| backend.service);
        let carried: BTreeSet<u32> = carried.chain(plan.services.values().copied()).collect();
        self.names.retain(|number, _| carried.contains(number));
        self.names.extend(plan.services.iter().map(|(key, number)| (*number, key.clone())));
        self.turned.retain(|number, _| carried.contains(number));
        self.drains.retain(|number, _| carried.contains(number));
        let moving = plan.turned.union(&plan.turning).copied().collect();
        self.placed.follow(&moving, &plan.services.values().copied().collect());
        let service = |backend: u32| self.actual.backends.get(&backend).map(|backend| backend.service);
        let time =
            |backend| service(backend).and_then(|service| self.drains.get(&service).copied().flatten());
        self.leaving.follow(&plan.draining, time, now);
        if !plan.steps.is_empty() || self.plan.services != plan.services {
            self.retired = self.plane.retired.read()?;
            for (number, _) in self.retired.extract_if(.., |number, _| !carried.contains(number)) {
                self.plane.retired.remove(number)?;
            }
        }
        self.plan = plan;
        Ok(())
    }

    /// Whether the maps could hold what is desired.
    ///
    /// # Errors
    /// A map can't be read, or is too small.
    pub(super) fn try_plan(&mut self, desired: &Desired, now: Instant) -> Result<(), ReconcileError> {
        let actual = apply::read(&mut self.plane, &mut self.known)?;
        let mut plan = plan::check(desired, &actual)?;
        if self.plan == Plan::default() {
            // The maps may stay as an earlier daemon left them until the checks have spoken: the status tells of them.
            plan.backends.retain(|_, number| actual.backends.contains_key(number));
            self.actual = actual;
            self.take(plan, now)?;
        }
        Ok(())
    }

    /// A service that an earlier daemon was turning starts its time anew.
    fn circumstances(&mut self, now: Instant) -> Circumstances {
        for (number, _) in self.actual.services.iter().filter(|(_, record)| record.previous != NO_TABLE) {
            self.turned.entry(*number).or_insert(now);
        }
        let settled = |(_, at): &(&u32, &Instant)| now.duration_since(**at) >= SETTLING;
        Circumstances {
            ways: self.ways.all().clone(),
            unused: self.leaving.unused(),
            overdue: self.leaving.overdue(now),
            settled: self.turned.iter().filter(settled).map(|(number, _)| *number).collect(),
            placed: self.placed.all(),
        }
    }

    pub(super) fn traffic(&self, backend: u32) -> Result<Traffic, MapAccessError> {
        self.plane.counters.read(backend).map(traffic)
    }

    /// Flows of a draining backend; `None` until they are known to have been counted since it left.
    pub(super) fn flows_left(&self, backend: u32) -> Option<u64> {
        self.leaving.flows_left(backend, self.census.all.get(&backend).copied().unwrap_or(0))
    }

    /// When a backend left, and whether its flows have had their time.
    pub(super) fn left(&self, backend: u32, now: Instant) -> Option<(Instant, bool)> {
        Some((self.leaving.since(backend)?, self.leaving.is_overdue(backend, now)))
    }

    pub(super) fn handle_census(&mut self, census: Census) {
        self.leaving.count(&census.all);
        if let Some(misplaced) = &census.misplaced {
            self.placed.count(misplaced);
        }
        for number in self.actual.backends.keys() {
            let active = census.active.get(number).copied().unwrap_or(0);
            self.plane.loads.settle(*number, u32::try_from(active).unwrap_or(u32::MAX));
        }
        self.expired += census.expired;
        self.census = census;
    }

    /// Whether a way changed, was lost or is back.
    pub(super) fn handle_ways(&mut self, found: Found, now: Instant) -> bool {
        if self.links != found.links {
            self.links = found.links;
            self.refresh_stations();
        }
        let changes = self.ways.take(found.ways, &self.links, now);
        for (destination, (before, after)) in &changes.reach {
            match (after, self.ways.trouble(*destination)) {
                (Reach::Open, _) if *before != Reach::Unknown => {
                    tracing::info!(%destination, "there is a way to {destination} again");
                }
                (Reach::Lost, Some(trouble)) => {
                    tracing::info!(%destination, "there is no way to {destination}: {}", trouble.reason);
                }
                (Reach::Silent, Some(trouble)) => {
                    let reason = &trouble.reason;
                    tracing::info!(%destination, "{reason}: backends without a check take no new flows");
                }
                (Reach::Open | Reach::Unknown, _) | (Reach::Lost | Reach::Silent, None) => {}
            }
        }
        !changes.is_empty()
    }

    /// Addresses of all backends, those that are draining included.
    pub(super) fn destinations(&self, config: &Config) -> BTreeSet<IpAddr> {
        let wanted = config.services.iter().flat_map(|s| &s.backends).map(|backend| backend.address);
        self.with_draining(wanted)
    }

    fn with_draining(&self, wanted: impl Iterator<Item = IpAddr>) -> BTreeSet<IpAddr> {
        let draining = self.plan.draining.iter().filter_map(|number| self.actual.backends.get(number));
        wanted.chain(draining.map(|backend| IpAddr::from(backend.address))).collect()
    }

    /// Number of a backend of the configuration.
    pub(super) fn number(&self, service: &str, family: Family, backend: SocketAddr) -> Option<u32> {
        let key = Key { name: service.to_owned(), family };
        self.plan.backends.get(&(key, backend)).copied()
    }
}

pub(super) const fn traffic(counters: BackendCounters) -> Traffic {
    Traffic {
        packets: counters.packets,
        bytes: counters.bytes,
        reply_packets: counters.reply_packets,
        reply_bytes: counters.reply_bytes,
        new_flows: counters.new_flows,
    }
}
