//! Reads the maps and carries plans out. Every step can be repeated; a step that fails is planned again.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::limits::{BACKENDS, TABLE_ENTRIES};
use lb_common::service::QuicKey;

use super::plan::{Actual, ServerId, Step};
use crate::dataplane::DataPlane;
use crate::dataplane::maps::MapAccessError;

/// Contents of the tables that this daemon wrote; a table in place is never changed. Those of an earlier daemon are
/// unknown, so each is written anew and the old one stays as the previous one for its time.
#[derive(Debug, Default)]
pub struct KnownTables(BTreeMap<u32, Known>);

#[derive(Debug)]
struct Known {
    entries: Arc<[u32]>,
    shares: BTreeMap<u32, f64>,
}

impl Known {
    fn new(entries: Arc<[u32]>) -> Self {
        let shares = shares(&entries);
        Self { entries, shares }
    }
}

impl KnownTables {
    /// Part of a table that a backend has, 0 to 1.
    #[must_use]
    pub fn share(&self, table: u32, backend: u32) -> f64 {
        self.0.get(&table).and_then(|known| known.shares.get(&backend)).copied().unwrap_or(0.0)
    }
}

fn shares(entries: &[u32]) -> BTreeMap<u32, f64> {
    let mut counts = vec![0_u32; BACKENDS as usize];
    for number in entries {
        if let Some(count) = counts.get_mut(*number as usize) {
            *count += 1;
        }
    }
    let named = (0..).zip(counts).filter(|(_, count)| *count > 0);
    named.map(|(number, count)| (number, f64::from(count) / f64::from(TABLE_ENTRIES))).collect()
}

/// What the maps hold now.
///
/// # Errors
/// A map could not be read.
pub fn read(plane: &mut DataPlane, known: &mut KnownTables) -> Result<Actual, MapAccessError> {
    let there = plane.table_numbers()?;
    known.0.retain(|number, _| there.contains(number));
    for number in there {
        known.0.entry(number).or_insert_with(|| Known::new(Arc::from([])));
    }
    let tables = known.0.iter().map(|(number, known)| (*number, Arc::clone(&known.entries))).collect();
    Ok(Actual {
        listeners: plane.listeners.read()?,
        ranges: plane.ranges.read()?,
        services: plane.services.read()?,
        backends: plane.backends.read()?,
        tables,
        members: plane.members.read()?,
        pools: plane.pools.read()?,
        sources: plane.sources.read()?,
        quic: plane.quic.read(|key, backend| (ServerId { service: key.service, id: key.id }, *backend))?,
        addresses: plane.addresses.read(|address, _| *address)?,
    })
}

/// Carries steps out in order, up to the first that fails.
///
/// # Errors
/// A map could not be written; the steps before are done and the next plan goes on from there.
pub fn apply(plane: &mut DataPlane, known: &mut KnownTables, steps: &[Step]) -> Result<(), MapAccessError> {
    let both_tables = |a: &Step, b: &Step| matches!((a, b), (Step::WriteTable(..), Step::WriteTable(..)));
    steps.chunk_by(both_tables).try_for_each(|steps| carry_out(plane, known, steps))
}

/// In one call for many: see [`Tables::write_many`](crate::dataplane::maps::Tables::write_many).
fn write_tables(
    plane: &mut DataPlane,
    known: &mut KnownTables,
    steps: &[Step],
) -> Result<(), MapAccessError> {
    let tables = steps.iter().filter_map(|step| {
        let Step::WriteTable(number, entries) = step else {
            return None;
        };
        Some((*number, entries))
    });
    let contents: Vec<(u32, &[u32])> = tables.clone().map(|(number, entries)| (number, &**entries)).collect();
    plane.tables.write_many(&contents)?;
    known.0.extend(tables.map(|(number, entries)| (number, Known::new(Arc::clone(entries)))));
    Ok(())
}

/// One step, or several that write tables.
fn carry_out(plane: &mut DataPlane, known: &mut KnownTables, steps: &[Step]) -> Result<(), MapAccessError> {
    let Some(step) = steps.first() else {
        return Ok(());
    };
    match step {
        Step::ClearCounters(number) => {
            plane.loads.reset(*number);
            plane.counters.clear(*number)
        }
        Step::WriteBackend(number, record) => plane.backends.write(*number, record),
        Step::WriteTable(..) => write_tables(plane, known, steps),
        Step::WriteMembers(number, members) => plane.members.write(*number, members),
        Step::WritePool(number, pool) => plane.pools.write(*number, pool),
        Step::WriteSource(service, prefix, word) => plane.sources.write(*service, prefix, *word),
        Step::WriteServerId(id, backend) => plane.quic.write(&QuicKey::from(*id), backend),
        Step::WriteService(number, record) => plane.services.write(*number, record),
        Step::WriteRanges(number, ranges) => plane.ranges.write(*number, ranges),
        Step::WriteListener(key, number) => plane.listeners.write(key, *number),
        Step::WriteAddress(address) => plane.addresses.write(address, &1),
        Step::RemoveAddress(address) => plane.addresses.remove(address),
        Step::RemoveListener(key) => plane.listeners.remove(key),
        Step::RemoveService(number) => plane.services.clear(*number),
        Step::RemoveServerId(id) => plane.quic.remove(&QuicKey::from(*id)),
        Step::RemoveSource(service, prefix) => plane.sources.remove(*service, prefix),
        Step::RemovePool(number) => plane.pools.clear(*number),
        Step::RemoveMembers(number) => plane.members.clear(*number),
        Step::RemoveRanges(number) => plane.ranges.clear(*number),
        Step::RemoveTable(number) => {
            plane.tables.remove(*number)?;
            known.0.remove(number);
            Ok(())
        }
        Step::FreeBackend { number, service } => {
            plane.backends.clear(*number)?;
            plane.retired.add(*service, plane.counters.read(*number)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_the_table_and_a_number_no_backend_has_is_nobodys() {
        let mut entries = vec![3; TABLE_ENTRIES as usize];
        entries[0] = 7;
        entries[1] = u32::MAX;
        let known = KnownTables(BTreeMap::from([(5, Known::new(Arc::from(entries)))]));
        let part = 1.0 / f64::from(TABLE_ENTRIES);
        assert!((known.share(5, 7) - part).abs() < 1e-12);
        assert!((known.share(5, 3) - (1.0 - 2.0 * part)).abs() < 1e-12);
        assert_eq!(known.share(5, u32::MAX).to_bits(), 0.0_f64.to_bits());
        assert_eq!(known.share(6, 3).to_bits(), 0.0_f64.to_bits());
    }
}
