//! Reads the maps and carries plans out. Every step can be repeated; a step that fails is planned again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::{Actual, Step};
use crate::dataplane::DataPlane;
use crate::dataplane::maps::MapAccessError;

/// Contents of the tables that this daemon wrote; a table in place is never changed. Those of an earlier daemon are
/// unknown, so each is written anew and the old one stays as the previous one for its time.
#[derive(Debug, Default)]
pub struct KnownTables(BTreeMap<u32, Arc<[u32]>>);

/// What the maps hold now.
///
/// # Errors
/// A map could not be read.
pub fn read(plane: &mut DataPlane, known: &mut KnownTables) -> Result<Actual, MapAccessError> {
    let mut tables = BTreeMap::new();
    for number in plane.table_numbers()? {
        let unknown = || Arc::from([]);
        tables.insert(number, known.0.remove(&number).unwrap_or_else(unknown));
    }
    known.0.clone_from(&tables);
    Ok(Actual { services: plane.services.read()?, backends: plane.backends.read()?, tables })
}

/// Carries steps out in order, up to the first that fails.
///
/// # Errors
/// A map could not be written; the steps before are done and the next plan goes on from there.
pub fn apply(plane: &mut DataPlane, known: &mut KnownTables, steps: &[Step]) -> Result<(), MapAccessError> {
    for step in steps {
        match step {
            Step::ClearCounters(number) => plane.counters.clear(*number)?,
            Step::WriteBackend(number, record) => plane.backends.write(*number, record)?,
            Step::WriteTable(number, entries) => {
                plane.tables.write(*number, entries)?;
                known.0.insert(*number, Arc::clone(entries));
            }
            Step::WriteService(key, value) => plane.services.write(key, value)?,
            Step::RemoveService(key) => plane.services.remove(key)?,
            Step::RemoveTable(number) => {
                plane.tables.remove(*number)?;
                known.0.remove(number);
            }
        }
    }
    Ok(())
}
