use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::limits;
use lb_common::service::{
    MEMBERS, MOVED, Members, Method, NO_TABLE, RESET, Rate, STATELESS, Scheduler, Service,
};

use super::backends::weight;
use super::{Actual, Circumstances, Plan, PlanError, Step};
use crate::desired::{self, Desired, Key, Listener};
use crate::sched::{self, Candidate, Kind};

/// Tables already built, by service: a table is built again only when its candidates change.
#[derive(Debug, Default)]
pub struct TableCache(BTreeMap<Key, Built>);

#[derive(Debug)]
struct Built {
    kind: Kind,
    candidates: Vec<Candidate>,
    table: Option<Arc<[u32]>>,
}

impl TableCache {
    #[cfg(test)]
    pub(in crate::reconcile) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn keep_only(&mut self, desired: &Desired) {
        self.0.retain(|service, _| desired.services.contains_key(service));
    }

    fn table(&mut self, service: &Key, kind: Kind, candidates: &[Candidate]) -> Option<Arc<[u32]>> {
        let same = |built: &&Built| built.kind == kind && built.candidates == candidates;
        if let Some(built) = self.0.get(service).filter(same) {
            return built.table.clone();
        }
        let table: Option<Arc<[u32]>> = sched::table(kind, candidates).map(Arc::from);
        let built = Built { kind, candidates: candidates.to_vec(), table: table.clone() };
        self.0.insert(service.clone(), built);
        table
    }
}

/// A service keeps the number that one of its listen addresses has.
pub(super) fn numbers(desired: &Desired, actual: &Actual) -> Result<BTreeMap<Key, u32>, PlanError> {
    let mut numbers = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (key, service) in &desired.services {
        let there = service.listens.iter().flat_map(|listen| listened(listen, actual));
        if let Some(number) = there.into_iter().find(|number| !taken.contains(number)) {
            taken.insert(number);
            numbers.insert(key.clone(), number);
        }
    }
    // A number that draining backends still carry belongs to a service that was.
    taken.extend(actual.backends.values().map(|backend| backend.service));
    taken.extend(actual.services.keys());
    taken.extend(actual.listeners.iter().filter(|(key, _)| key.port != 0).map(|(_, number)| *number));
    let ranges = actual.ranges.values().flat_map(|ranges| ranges.ranges);
    taken.extend(ranges.filter(|range| range.last != 0).map(|range| range.service));
    let mut free = (0..limits::SERVICES).filter(|number| !taken.contains(number));
    for key in desired.services.keys() {
        if !numbers.contains_key(key) {
            numbers.insert(key.clone(), free.next().ok_or(PlanError::TooManyServices)?);
        }
    }
    Ok(numbers)
}

/// Numbers of services that listen there now.
fn listened(listen: &desired::Listen, actual: &Actual) -> Vec<u32> {
    let desired::Listen { address, protocol, ports } = *listen;
    let valid = |number: &u32| *number < limits::SERVICES;
    if let Some(port) = ports.single() {
        let number = actual.listeners.get(&Listener { address, protocol, port });
        return number.copied().filter(valid).into_iter().collect();
    }
    let record = actual.listeners.get(&Listener { address, protocol, port: 0 });
    let ranges = record.and_then(|record| actual.ranges.get(record)).map(|ranges| ranges.ranges);
    let there = ranges.into_iter().flatten().filter(|range| range.last != 0);
    let same = there.filter(|range| ports.first <= range.last && range.first <= ports.last);
    same.map(|range| range.service).filter(valid).collect()
}

/// Tables, members and records; a record after what it refers to.
pub(super) fn plan(
    desired: &Desired,
    actual: &Actual,
    circumstances: &Circumstances,
    cache: &mut TableCache,
    plan: &mut Plan,
) -> Result<(), PlanError> {
    let mut free = (0..limits::TABLES).filter(|number| !actual.tables.contains_key(number));
    let mut writes = Vec::new();
    for (key, service) in &desired.services {
        let number = plan.services[key];
        let there = actual.services.get(&number);
        let mut record = service.record;
        let mut written = false;
        if service.pool.is_some() {
            record.sources = number;
        }
        let candidates = candidates(key, service, actual, plan);
        let table = cache.table(key, service.kind, &candidates);
        turn(&mut record, there, table.as_ref(), actual);
        if let (NO_TABLE, Some(entries)) = (record.table, table) {
            record.table = place(&mut free, &mut record, there)?;
            plan.steps.push(Step::WriteTable(record.table, entries));
            written = true;
        }
        members(number, service, &candidates, actual, plan);
        let same = there.is_some_and(|there| {
            there.table == record.table
                && there.scheduler == record.scheduler
                && there.method == record.method
        });
        if circumstances.settled.contains(&number)
            && there.is_some_and(|there| there.previous == record.previous)
        {
            record.previous = NO_TABLE;
        }
        // Until it has settled, connections midway go by the table before, and what they become is to be looked for after.
        let turning = record.previous != NO_TABLE || there.is_some_and(|there| there.previous != NO_TABLE);
        if written || !same {
            plan.turned.insert(number);
        }
        if turning {
            plan.turning.insert(number);
        }
        let placed = circumstances.placed.contains(&number) && !plan.turned.contains(&number) && !turning;
        if service.always_moved || !placed {
            record.flags |= MOVED;
        }
        if is_stateless(&record) {
            record.flags |= STATELESS;
        }
        if there != Some(&record) {
            writes.push(Step::WriteService(number, record));
        }
    }
    plan.steps.append(&mut writes);
    Ok(())
}

/// Whether its table alone decides what becomes of a SYN.
fn is_stateless(record: &Service) -> bool {
    let by_table = Scheduler::is_hash(record.scheduler) && record.previous == NO_TABLE;
    let unanswered = [Method::Tunnel as u8, Method::Direct as u8].contains(&record.method);
    let nothing_else = record.flags & !RESET == 0
        && record.persistence == 0
        && record.quic_length == 0
        && record.rate == Rate::default()
        && record.source_rate == Rate::default();
    by_table && unanswered && nothing_else
}

/// What [`crate::sched`] builds the table from; in the order of the configuration.
fn candidates(key: &Key, service: &desired::Service, actual: &Actual, plan: &Plan) -> Vec<Candidate> {
    let candidate = |backend: &desired::Backend| {
        let number = plan.backends[&(key.clone(), backend.address)];
        let weight = weight(backend, actual.backends.get(&number));
        (weight > 0).then(|| Candidate { identity: backend.address.to_string(), number, weight })
    };
    service.backends.iter().filter_map(candidate).collect()
}

/// A record of zeros where the data plane goes by the table.
fn members(
    number: u32,
    service: &desired::Service,
    candidates: &[Candidate],
    actual: &Actual,
    plan: &mut Plan,
) {
    let mut members = Members { count: 0, backends: [0; MEMBERS] };
    if candidates.len() <= service.members {
        for (place, candidate) in members.backends.iter_mut().zip(candidates) {
            // A number has 16 bits: `limits::BACKENDS`.
            *place = candidate.number as u16;
            members.count += 1;
        }
    }
    match (members.count, actual.members.get(&number)) {
        (0, None) => {}
        (0, Some(_)) => plan.steps.push(Step::RemoveMembers(number)),
        (_, there) if there == Some(&members) => {}
        (_, _) => plan.steps.push(Step::WriteMembers(number, members)),
    }
}

/// Where a table is written: beside the old one, or in its place if there is no room, which moves connections that are
/// opening just now.
fn place(
    free: &mut impl Iterator<Item = u32>,
    record: &mut Service,
    there: Option<&Service>,
) -> Result<u32, PlanError> {
    if let Some(number) = free.next() {
        return Ok(number);
    }
    record.previous = NO_TABLE;
    there.map(|there| there.table).filter(|table| *table != NO_TABLE).ok_or(PlanError::TooManyTables)
}

/// Fills in the tables of a record; its table is [`NO_TABLE`] where one is still to be written.
fn turn(record: &mut Service, there: Option<&Service>, wanted: Option<&Arc<[u32]>>, actual: &Actual) {
    (record.table, record.previous) = (NO_TABLE, NO_TABLE);
    let Some(there) = there else {
        return;
    };
    let holds = |table: u32| actual.tables.get(&table);
    let same = |table: u32| holds(table).is_some() && holds(table) == wanted;
    if same(there.table) || (wanted.is_none() && there.table == NO_TABLE) {
        (record.table, record.previous) = (there.table, there.previous);
    } else if same(there.previous) {
        (record.table, record.previous) = (there.previous, there.table);
    } else {
        record.previous = there.table;
    }
    if holds(record.previous).is_none() {
        record.previous = NO_TABLE;
    }
}
