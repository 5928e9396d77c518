//! The steps from the actual maps to the desired ones.
//!
//! Numbers of services and backends are kept: flows and counters refer to them. A backend that leaves keeps its number
//! until it has no flow left. A Maglev table that changes is written beside the old one, and listeners are turned to it
//! by one write each; the old one stays as `previous` until connections that were opening have shown themselves.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lb_common::addr::Addr;
use lb_common::backend::{Backend, NextHop, RESOLVED, SERVING};
use lb_common::limits;
use lb_common::service::{NO_TABLE, ServiceKey, ServiceValue};
use thiserror::Error;

use crate::desired::{self, Desired, Way};
use crate::sched::maglev::{self, Candidate};

/// What the maps hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    pub services: BTreeMap<ServiceKey, ServiceValue>,
    pub backends: BTreeMap<u32, Backend>,
    /// By number; empty where the contents are unknown.
    pub tables: BTreeMap<u32, Arc<[u32]>>,
}

/// What else a plan depends on.
#[derive(Debug, Default)]
pub struct Circumstances {
    pub ways: BTreeMap<IpAddr, Way>,
    /// Backends that no flow refers to.
    pub unused: BTreeSet<u32>,
    /// Services whose previous table nobody needs any more.
    pub settled: BTreeSet<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The number is given to a new backend.
    ClearCounters(u32),
    WriteBackend(u32, Backend),
    WriteTable(u32, Arc<[u32]>),
    WriteService(ServiceKey, ServiceValue),
    RemoveService(ServiceKey),
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
    pub services: BTreeMap<String, u32>,
    pub backends: BTreeMap<(String, SocketAddr), u32>,
    /// Backends that are no longer wanted and still have flows, by number.
    pub draining: BTreeSet<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    #[error("more than {} backends, those that are draining included", limits::BACKENDS)]
    TooManyBackends,
    #[error("more than {} services, each of which has a Maglev table", limits::TABLES)]
    TooManyTables,
    #[error("more than {} listen addresses", limits::LISTENERS)]
    TooManyListeners,
}

/// Tables already built, by service: a table is built again only when its candidates change.
#[derive(Debug, Default)]
pub struct TableCache(BTreeMap<String, Built>);

#[derive(Debug)]
struct Built {
    candidates: Vec<Candidate>,
    table: Option<Arc<[u32]>>,
}

impl TableCache {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn table(&mut self, service: &str, candidates: Vec<Candidate>) -> Option<Arc<[u32]>> {
        if let Some(built) = self.0.get(service).filter(|built| built.candidates == candidates) {
            return built.table.clone();
        }
        let table = maglev::table(&candidates).map(Arc::from);
        self.0.insert(service.to_owned(), Built { candidates, table: table.clone() });
        table
    }
}

/// # Errors
/// A map is too small for what is desired; then nothing should be changed.
pub fn plan(
    desired: &Desired,
    actual: &Actual,
    circumstances: &Circumstances,
    cache: &mut TableCache,
) -> Result<Plan, PlanError> {
    cache.0.retain(|service, _| desired.services.contains_key(service));
    let (mut plan, closing) = plan_numbers(desired, actual, circumstances)?;
    plan_services(desired, actual, circumstances, cache, &mut plan)?;
    plan.steps.extend(closing);
    let freed = plan_unused(actual, circumstances, &plan);
    plan.steps.extend(freed);
    Ok(plan)
}

/// What [`plan`] would refuse, without the tables, which are what takes time; the plan that is returned has numbers and
/// no steps.
///
/// # Errors
/// As [`plan`].
pub fn check(desired: &Desired, actual: &Actual) -> Result<Plan, PlanError> {
    let (plan, _) = plan_numbers(desired, actual, &Circumstances::default())?;
    if desired.services.len() > limits::TABLES as usize {
        return Err(PlanError::TooManyTables);
    }
    Ok(Plan { steps: Vec::new(), ..plan })
}

/// A plan as far as the backends, and the steps of [`plan_backends`] that come after the tables.
fn plan_numbers(
    desired: &Desired,
    actual: &Actual,
    circumstances: &Circumstances,
) -> Result<(Plan, Vec<Step>), PlanError> {
    if desired.services.values().map(|s| s.listeners.len()).sum::<usize>() > limits::LISTENERS as usize {
        return Err(PlanError::TooManyListeners);
    }
    let mut plan = Plan { services: service_numbers(desired, actual), ..Plan::default() };
    let closing = plan_backends(desired, actual, circumstances, &mut plan)?;
    Ok((plan, closing))
}

/// A service keeps the number that one of its listen addresses has.
fn service_numbers(desired: &Desired, actual: &Actual) -> BTreeMap<String, u32> {
    let mut numbers = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (name, service) in &desired.services {
        let number = service.listeners.iter().find_map(|key| {
            let number = actual.services.get(key)?.service;
            (!taken.contains(&number)).then_some(number)
        });
        if let Some(number) = number {
            taken.insert(number);
            numbers.insert(name.clone(), number);
        }
    }
    // A number that draining backends still carry belongs to a service that was.
    taken.extend(actual.backends.values().map(|backend| backend.service));
    taken.extend(actual.services.values().map(|value| value.service));
    let mut free = (0..).filter(|number| !taken.contains(number));
    for name in desired.services.keys() {
        numbers.entry(name.clone()).or_insert_with(|| free.next().unwrap_or(u32::MAX));
    }
    numbers
}

/// Returns the steps that take backends out of service: they come after the tables, which must not name a backend that
/// takes no new flow, even for the moment that writing a table takes.
fn plan_backends(
    desired: &Desired,
    actual: &Actual,
    circumstances: &Circumstances,
    plan: &mut Plan,
) -> Result<Vec<Step>, PlanError> {
    let mut closing = Vec::new();
    let known: BTreeMap<(u32, Addr, u16), u32> = actual
        .backends
        .iter()
        .map(|(number, backend)| ((backend.service, backend.address, backend.port), *number))
        .collect();
    let mut free = (0..limits::BACKENDS).filter(|number| !actual.backends.contains_key(number));
    for (name, service) in &desired.services {
        let service_number = plan.services[name];
        for (address, backend) in &service.backends {
            let mut record = record(service_number, *address, backend, &circumstances.ways);
            let number = match known.get(&(service_number, record.address, record.port)) {
                Some(number) => *number,
                None => free.next().ok_or(PlanError::TooManyBackends)?,
            };
            match actual.backends.get(&number) {
                Some(there) => keep_way(&mut record, there),
                None => plan.steps.push(Step::ClearCounters(number)),
            }
            let step = Step::WriteBackend(number, record);
            match actual.backends.get(&number) {
                Some(there) if *there == record => {}
                Some(there) if there.flags & !record.flags & SERVING != 0 => closing.push(step),
                _ => plan.steps.push(step),
            }
            plan.backends.insert((name.clone(), *address), number);
        }
    }
    plan_draining(actual, circumstances, plan);
    Ok(closing)
}

fn plan_draining(actual: &Actual, circumstances: &Circumstances, plan: &mut Plan) {
    let wanted: BTreeSet<u32> = plan.backends.values().copied().collect();
    for (number, backend) in actual.backends.iter().filter(|(number, _)| !wanted.contains(number)) {
        if circumstances.unused.contains(number) {
            continue;
        }
        let mut record = *backend;
        if let Some(way) = circumstances.ways.get(&IpAddr::from(backend.address)) {
            set_way(&mut record, way);
        }
        if record != *backend {
            plan.steps.push(Step::WriteBackend(*number, record));
        }
        plan.draining.insert(*number);
    }
}

fn record(
    service: u32,
    address: SocketAddr,
    backend: &desired::Backend,
    ways: &BTreeMap<IpAddr, Way>,
) -> Backend {
    let mut record = Backend {
        address: Addr::from(address.ip()),
        port: address.port().to_be(),
        flags: if backend.serving { SERVING } else { 0 },
        service,
        ..Backend::default()
    };
    if let Some(way) = ways.get(&address.ip()) {
        set_way(&mut record, way);
    }
    record
}

fn set_way(record: &mut Backend, way: &Way) {
    record.next_hop = way.next_hop;
    record.mtu = way.mtu;
    record.tunnel_source = Addr::from(way.source);
    record.flags |= RESOLVED;
}

/// A way that an earlier daemon found is better than none.
fn keep_way(record: &mut Backend, there: &Backend) {
    if record.next_hop == NextHop::default() {
        record.next_hop = there.next_hop;
        record.mtu = there.mtu;
        record.tunnel_source = there.tunnel_source;
        record.flags |= there.flags & RESOLVED;
    }
}

fn plan_services(
    desired: &Desired,
    actual: &Actual,
    circumstances: &Circumstances,
    cache: &mut TableCache,
    plan: &mut Plan,
) -> Result<(), PlanError> {
    let mut numbers = (0..limits::TABLES).filter(|number| !actual.tables.contains_key(number));
    let mut writes = Vec::new();
    for (name, service) in &desired.services {
        let number = plan.services[name];
        let there = service
            .listeners
            .iter()
            .filter_map(|key| actual.services.get(key))
            .find(|value| value.service == number);
        let kept = there.filter(|there| service.keep_table && actual.tables.contains_key(&there.table));
        let mut value = match kept {
            Some(there) => *there,
            None => {
                let table = cache.table(name, candidates(name, service, plan));
                let mut value = turn(there, number, service, table.as_ref(), actual);
                if let (NO_TABLE, Some(entries)) = (value.table, table) {
                    value.table = place(&mut numbers, &mut value, there)?;
                    plan.steps.push(Step::WriteTable(value.table, entries));
                }
                value
            }
        };
        if circumstances.settled.contains(&number)
            && there.is_some_and(|there| there.previous == value.previous)
        {
            value.previous = NO_TABLE;
        }
        let stale = service.listeners.iter().filter(|key| actual.services.get(*key) != Some(&value));
        writes.extend(stale.map(|key| Step::WriteService(*key, value)));
    }
    plan.steps.append(&mut writes);
    let wanted: BTreeSet<_> = desired.services.values().flat_map(|service| &service.listeners).collect();
    let gone = actual.services.keys().filter(|key| !wanted.contains(key));
    plan.steps.extend(gone.map(|key| Step::RemoveService(*key)));
    Ok(())
}

/// Where a table is written: beside the old one, or in its place if there is no room, which moves connections that are
/// opening just now.
fn place(
    free: &mut impl Iterator<Item = u32>,
    value: &mut ServiceValue,
    there: Option<&ServiceValue>,
) -> Result<u32, PlanError> {
    if let Some(number) = free.next() {
        return Ok(number);
    }
    value.previous = NO_TABLE;
    there.map(|there| there.table).filter(|table| *table != NO_TABLE).ok_or(PlanError::TooManyTables)
}

fn candidates(name: &str, service: &desired::Service, plan: &Plan) -> Vec<Candidate> {
    let takes_flows = service.backends.iter().filter(|(_, backend)| backend.weight > 0);
    takes_flows
        .map(|(address, backend)| Candidate {
            identity: address.to_string(),
            number: plan.backends[&(name.to_owned(), *address)],
            weight: backend.weight,
        })
        .collect()
}

/// The value for a service's listeners; `table` is [`NO_TABLE`] where one is still to be written.
fn turn(
    there: Option<&ServiceValue>,
    number: u32,
    service: &desired::Service,
    wanted: Option<&Arc<[u32]>>,
    actual: &Actual,
) -> ServiceValue {
    let mut value =
        ServiceValue { service: number, table: NO_TABLE, previous: NO_TABLE, method: service.method as u32 };
    let Some(there) = there else {
        return value;
    };
    let holds = |table: u32| actual.tables.get(&table);
    let same = |table: u32| holds(table).is_some() && holds(table) == wanted;
    if same(there.table) || (wanted.is_none() && there.table == NO_TABLE) {
        (value.table, value.previous) = (there.table, there.previous);
    } else if same(there.previous) {
        (value.table, value.previous) = (there.previous, there.table);
    } else {
        value.previous = there.table;
    }
    if holds(value.previous).is_none() {
        value.previous = NO_TABLE;
    }
    value
}

/// What nothing refers to once the steps so far are done.
fn plan_unused(actual: &Actual, circumstances: &Circumstances, plan: &Plan) -> Vec<Step> {
    let mut services = actual.services.clone();
    for step in &plan.steps {
        match step {
            Step::WriteService(key, value) => {
                services.insert(*key, *value);
            }
            Step::RemoveService(key) => {
                services.remove(key);
            }
            Step::ClearCounters(_)
            | Step::WriteBackend(..)
            | Step::WriteTable(..)
            | Step::RemoveTable(_)
            | Step::FreeBackend { .. } => {}
        }
    }
    let tables: BTreeSet<u32> = services.values().flat_map(|value| [value.table, value.previous]).collect();
    let wanted: BTreeSet<u32> = plan.backends.values().copied().collect();
    let tables =
        actual.tables.keys().filter(|number| !tables.contains(number)).copied().map(Step::RemoveTable);
    let backends = actual
        .backends
        .iter()
        .filter(|(number, _)| circumstances.unused.contains(number) && !wanted.contains(number))
        .map(|(number, backend)| Step::FreeBackend { number: *number, service: backend.service });
    tables.chain(backends).collect()
}
