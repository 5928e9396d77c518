//! Where services listen: single ports exactly, ranges of ports under port 0.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::addr::Addr;
use lb_common::limits;
use lb_common::service::{RANGES, Range, Ranges};

use super::{Actual, Plan, PlanError, Step};
use crate::desired::{Desired, Listener};

#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) write: Vec<Step>,
    pub(super) remove: Vec<Step>,
    /// Records of ranges that no listener refers to any more.
    pub(super) free: Vec<Step>,
    /// Services that listen where they did not before.
    pub(super) touched: BTreeSet<u32>,
}

pub(super) fn plan(desired: &Desired, actual: &Actual, plan: &Plan) -> Result<Steps, PlanError> {
    let (mut listeners, ranged, addresses) = wanted(desired, plan);
    let mut steps = Steps::default();
    let used: BTreeSet<u32> =
        actual.listeners.iter().filter(|(key, _)| key.port == 0).map(|(_, record)| *record).collect();
    let mut free = (0..limits::RANGED).filter(|number| !used.contains(number));
    let mut kept = BTreeSet::new();
    for ((address, protocol), ranges) in ranged {
        let key = Listener { address, protocol, port: 0 };
        let there = actual.listeners.get(&key).copied().filter(|number| !kept.contains(number));
        let number = match there {
            Some(number) => number,
            None => free.next().ok_or(PlanError::TooManyRanged)?,
        };
        kept.insert(number);
        let old = actual.ranges.get(&number).copied().unwrap_or_default();
        let new = place(&old, &ranges)?;
        if new != old {
            let added = new.ranges.iter().filter(|range| !old.ranges.contains(range));
            steps.touched.extend(added.map(|range| range.service));
            steps.write.push(Step::WriteRanges(number, new));
        }
        listeners.insert(key, number);
    }
    for ipv4 in [true, false] {
        if listeners.keys().filter(|key| key.address.is_v4() == ipv4).count() > limits::LISTENERS as usize {
            return Err(PlanError::TooManyListeners);
        }
    }
    for (key, number) in listeners.iter().filter(|(key, number)| actual.listeners.get(*key) != Some(*number))
    {
        steps.write.push(Step::WriteListener(*key, *number));
        if key.port != 0 {
            steps.touched.insert(*number);
        }
    }
    steps.write.extend(addresses.difference(&actual.addresses).copied().map(Step::WriteAddress));
    steps.remove.extend(actual.addresses.difference(&addresses).copied().map(Step::RemoveAddress));
    let gone = actual.listeners.keys().filter(|key| !listeners.contains_key(*key));
    steps.remove.extend(gone.copied().map(Step::RemoveListener));
    let idle = actual.ranges.keys().filter(|number| !kept.contains(*number));
    steps.free.extend(idle.copied().map(Step::RemoveRanges));
    Ok(steps)
}

type Ranged = BTreeMap<(Addr, u8), BTreeSet<Range>>;

fn wanted(desired: &Desired, plan: &Plan) -> (BTreeMap<Listener, u32>, Ranged, BTreeSet<Addr>) {
    let mut listeners = BTreeMap::new();
    let mut ranged = Ranged::new();
    let mut addresses = BTreeSet::new();
    for (key, service) in &desired.services {
        let number = plan.services[key];
        for listen in &service.listens {
            addresses.insert(listen.address);
            let (address, protocol) = (listen.address, listen.protocol);
            match listen.ports.single() {
                Some(port) => {
                    listeners.insert(Listener { address, protocol, port }, number);
                }
                None => {
                    let range = Range { first: listen.ports.first, last: listen.ports.last, service: number };
                    ranged.entry((address, protocol)).or_default().insert(range);
                }
            }
        }
    }
    (listeners, ranged, addresses)
}

/// Ranges that stay keep their place: the record is read while it is written, a range at a time.
fn place(old: &Ranges, wanted: &BTreeSet<Range>) -> Result<Ranges, PlanError> {
    if wanted.len() > RANGES {
        return Err(PlanError::TooManyRanges);
    }
    let mut new = Ranges::default();
    for (place, range) in new.ranges.iter_mut().zip(&old.ranges) {
        if wanted.contains(range) {
            *place = *range;
        }
    }
    let missing: Vec<Range> = wanted.iter().filter(|range| !old.ranges.contains(range)).copied().collect();
    let free = new.ranges.iter_mut().filter(|range| **range == Range::default());
    for (place, range) in free.zip(missing) {
        *place = range;
    }
    Ok(new)
}
