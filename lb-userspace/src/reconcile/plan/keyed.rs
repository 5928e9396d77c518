//! What belongs to a service beside its record: addresses that `fullnat` gives out, lists of sources, QUIC server ids.

use std::collections::BTreeMap;

use lb_common::limits;
use lb_common::service::{SOURCES, Sources};

use super::{Actual, Plan, PlanError, ServerId, Step};
use crate::desired::{Desired, SourcePrefix};

#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) write: Vec<Step>,
    pub(super) remove: Vec<Step>,
}

pub(super) fn plan(desired: &Desired, actual: &Actual, plan: &Plan) -> Result<Steps, PlanError> {
    let mut pools: BTreeMap<u32, Sources> = BTreeMap::new();
    let mut sources: BTreeMap<(u32, SourcePrefix), u32> = BTreeMap::new();
    let mut quic: BTreeMap<ServerId, u32> = BTreeMap::new();
    for (key, service) in &desired.services {
        let number = plan.services[key];
        pools.extend(service.pool.map(|pool| (number, stable(pool, actual.pools.get(&number)))));
        sources.extend(service.sources.iter().map(|(prefix, word)| ((number, *prefix), *word)));
        quic.extend(service.quic.iter().filter_map(|(id, backend)| {
            let backend = plan.backends.get(&(key.clone(), *backend))?;
            Some((ServerId { service: number, id: *id }, *backend))
        }));
    }
    if sources.len() > limits::SOURCE_PREFIXES as usize {
        return Err(PlanError::TooManySources);
    }
    let mut steps = Steps::default();
    let stale = changed(&pools, &actual.pools);
    steps.write.extend(stale.map(|(number, pool)| Step::WritePool(*number, *pool)));
    let stale = changed(&sources, &actual.sources);
    steps.write.extend(stale.map(|((number, prefix), word)| Step::WriteSource(*number, *prefix, *word)));
    let stale = changed(&quic, &actual.quic);
    steps.write.extend(stale.map(|(id, backend)| Step::WriteServerId(*id, *backend)));
    steps.remove.extend(gone(&quic, &actual.quic).copied().map(Step::RemoveServerId));
    let idle = gone(&sources, &actual.sources);
    steps.remove.extend(idle.map(|(number, prefix)| Step::RemoveSource(*number, *prefix)));
    // Flows have their addresses from it for as long as their backends are there.
    let idle = gone(&pools, &actual.pools).filter(|pool| !carries(actual, **pool));
    steps.remove.extend(idle.copied().map(Step::RemovePool));
    Ok(steps)
}

/// Whether a backend of the service is there, though it may be draining.
fn carries(actual: &Actual, service: u32) -> bool {
    actual.backends.values().any(|backend| backend.service == service)
}

/// The addresses of a pool, those that flows may have where they are: an address that is added moves no other, one that
/// is removed makes room for those behind.
fn stable(mut wanted: Sources, there: Option<&Sources>) -> Sources {
    let count = wanted.count as usize;
    let mut left: Vec<_> = wanted.addresses[..count].to_vec();
    let mut placed = [None; SOURCES];
    let kept = there.map_or(0, |there| count.min(there.count as usize));
    for (place, address) in
        placed.iter_mut().zip(there.into_iter().flat_map(|there| there.addresses)).take(kept)
    {
        if let Some(at) = left.iter().position(|wanted| *wanted == address) {
            *place = Some(left.remove(at));
        }
    }
    let mut left = left.into_iter();
    for (address, place) in wanted.addresses[..count].iter_mut().zip(placed) {
        if let Some(kept) = place.or_else(|| left.next()) {
            *address = kept;
        }
    }
    wanted
}

fn changed<'a, K: Ord, V: PartialEq>(
    wanted: &'a BTreeMap<K, V>,
    actual: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    wanted.iter().filter(|(key, value)| actual.get(key) != Some(*value))
}

fn gone<'a, K: Ord, V>(
    wanted: &'a BTreeMap<K, V>,
    actual: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    actual.keys().filter(|key| !wanted.contains_key(*key))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use lb_common::addr::Addr;

    use super::*;

    fn pool(addresses: &[u8]) -> Sources {
        let mut pool = Sources { count: addresses.len() as u32, ..Sources::default() };
        for (place, last) in pool.addresses.iter_mut().zip(addresses) {
            *place = Addr::from(IpAddr::from([10, 0, 0, *last]));
        }
        pool
    }

    #[test]
    fn flows_keep_their_address_whatever_is_added_and_whatever_the_order() {
        for (wanted, there, expected) in [
            (&[1, 2][..], &[][..], &[1, 2][..]),
            (&[1, 2, 3], &[2, 3], &[2, 3, 1]),
            (&[3, 2, 1], &[1, 2, 3], &[1, 2, 3]),
            (&[2, 3], &[1, 2, 3], &[3, 2]),
            (&[4], &[1, 2, 3], &[4]),
        ] {
            assert_eq!(stable(pool(wanted), Some(&pool(there))), pool(expected), "{wanted:?} {there:?}");
        }
    }
}
