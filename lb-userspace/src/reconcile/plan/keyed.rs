//! What belongs to a service beside its record: addresses that `fullnat` gives out, lists of sources, QUIC server ids.

use std::collections::BTreeMap;

use lb_common::limits;
use lb_common::service::Sources;

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
        pools.extend(service.pool.map(|pool| (number, pool)));
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
    steps.remove.extend(gone(&pools, &actual.pools).copied().map(Step::RemovePool));
    Ok(steps)
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
