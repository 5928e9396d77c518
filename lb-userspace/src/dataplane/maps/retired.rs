use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use lb_common::counters::BackendCounters;
use lb_common::limits;

use super::counters::add;
use super::names::RETIRED as NAME;
use super::{MapAccessError, MapOpenError, access, removed};

/// What backends that have left had counted, by number of their service: pinned, so that the counters of a service go on
/// after a restart of the daemon, as those of its backends do. No program uses it.
pub struct Retired(HashMap<MapData, u32, BackendCounters>);

/// Numbers that services can have.
const CAPACITY: u32 = limits::SERVICES;

impl Retired {
    /// Opens the map pinned at `pin`, or makes it there; without `pin`, one that lasts as long as this.
    pub(in crate::dataplane) fn open(pin: Option<&Path>) -> Result<Self, MapOpenError> {
        let layout = |source| MapOpenError::Layout { name: NAME, source };
        let Some(pin) = pin else {
            return HashMap::create(CAPACITY, 0).map(Self).map_err(layout);
        };
        let data = match MapData::from_pin(pin) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
                let made = HashMap::<MapData, u32, BackendCounters>::create(CAPACITY, 0).map_err(layout)?;
                made.pin(pin).map_err(|source| MapOpenError::Pin { name: NAME, source })?;
                MapData::from_pin(pin)
            }
            data => data,
        };
        data.and_then(|data| HashMap::try_from(Map::HashMap(data))).map(Self).map_err(layout)
    }

    pub fn read(&self) -> Result<BTreeMap<u32, BackendCounters>, MapAccessError> {
        access(self.0.iter().collect(), NAME, "read")
    }

    /// Adds what a backend of the service has counted.
    pub fn add(&mut self, service: u32, counted: BackendCounters) -> Result<(), MapAccessError> {
        let sum = match self.0.get(&service, 0) {
            Err(MapError::KeyNotFound) => BackendCounters::default(),
            sum => access(sum, NAME, "read")?,
        };
        let sum = add(sum, counted);
        access(self.0.insert(service, sum, 0), NAME, "write to")
    }

    /// Forgets a service whose number is free.
    pub fn remove(&mut self, service: u32) -> Result<(), MapAccessError> {
        removed(self.0.remove(&service), NAME)
    }
}
