use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::addr::Addr;
use lb_common::backend::{Backend, NextHop, RESOLVED, SERVING};
use lb_common::limits;

use super::{Actual, Circumstances, Plan, PlanError, Step};
use crate::desired::{self, Desired, Outer, Way};

/// Returns the steps that take backends out of service: they come after the tables, which must not name a backend that
/// takes no new flow, even for the moment that writing a table takes.
pub(super) fn plan(
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
    for (key, service) in &desired.services {
        let service_number = plan.services[key];
        for backend in &service.backends {
            let mut record = record(service_number, backend, &circumstances.ways);
            let number = match known.get(&(service_number, record.address, record.port)) {
                Some(number) => *number,
                None => free.next().ok_or(PlanError::TooManyBackends)?,
            };
            match actual.backends.get(&number) {
                Some(there) => keep(&mut record, there),
                None => plan.steps.push(Step::ClearCounters(number)),
            }
            record.weight = weight(backend, actual.backends.get(&number)).into();
            let record = record.with_derived();
            let step = Step::WriteBackend(number, record);
            match actual.backends.get(&number) {
                Some(there) if *there == record => {}
                Some(there) if there.flags & !record.flags & SERVING != 0 => closing.push(step),
                _ => plan.steps.push(step),
            }
            plan.backends.insert((key.clone(), backend.address), number);
        }
    }
    plan_draining(actual, circumstances, plan, &mut closing);
    Ok(closing)
}

fn plan_draining(actual: &Actual, circumstances: &Circumstances, plan: &mut Plan, closing: &mut Vec<Step>) {
    let wanted: BTreeSet<u32> = plan.backends.values().copied().collect();
    for (number, backend) in actual.backends.iter().filter(|(number, _)| !wanted.contains(number)) {
        if circumstances.unused.contains(number) {
            continue;
        }
        let mut record = Backend { weight: 0, ..*backend };
        if let Some(way) = circumstances.ways.get(&IpAddr::from(backend.address)) {
            record.next_hop = way.next_hop;
            record.mtu = way.mtu;
            record.flags |= RESOLVED;
        }
        if circumstances.overdue.contains(number) {
            record.flags &= !SERVING;
        }
        if record != *backend {
            closing.push(Step::WriteBackend(*number, record));
        }
        plan.draining.insert(*number);
    }
}

fn record(service: u32, backend: &desired::Backend, ways: &BTreeMap<IpAddr, Way>) -> Backend {
    let mut record = Backend {
        address: Addr::from(backend.address.ip()),
        port: backend.address.port().to_be(),
        flags: if backend.serving { SERVING } else { 0 },
        identity: backend.identity,
        service,
        high: backend.high,
        low: backend.low,
        ..Backend::default()
    };
    let way = ways.get(&backend.address.ip());
    if let Some(way) = way {
        record.next_hop = way.next_hop;
        record.mtu = way.mtu;
        record.flags |= RESOLVED;
    }
    if let Some(outer) = &backend.outer {
        set_outer(&mut record, outer, way);
    }
    record
}

fn set_outer(record: &mut Backend, outer: &Outer, way: Option<&Way>) {
    record.encapsulation = outer.encapsulation as u8;
    record.gue_port = outer.gue_port.to_be();
    let own = way.map(|way| (way.source, 0));
    if let Some((source, spread)) = outer.source.or(own) {
        record.tunnel_source = Addr::from(source);
        record.spread = spread;
    }
}

/// Of a backend of which nobody knows whether it takes new flows, whoever wrote what is there knew.
pub(super) fn weight(backend: &desired::Backend, there: Option<&Backend>) -> u16 {
    let took_flows = there.is_some_and(|there| there.weight > 0);
    if backend.unknown && !took_flows { 0 } else { backend.weight }
}

/// A way that an earlier daemon found is better than none; and the name that flows know a backend by stays: a service that is
/// renamed loses none.
fn keep(record: &mut Backend, there: &Backend) {
    if there.identity != 0 {
        record.identity = there.identity;
    }
    if record.next_hop == NextHop::default() {
        record.next_hop = there.next_hop;
        record.mtu = there.mtu;
        record.flags |= there.flags & RESOLVED;
    }
    // The flows of a service that was a tunnel's still are.
    if record.tunnel_source == Addr::default() {
        let Backend { tunnel_source, spread, encapsulation, gue_port, .. } = *there;
        *record = Backend { tunnel_source, spread, encapsulation, gue_port, ..*record };
    }
}
