use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError};

use super::names::SEED as NAME;
use super::{MapAccessError, MapOpenError, access};

/// The secret of the flow table's hash: made once, and kept for as long as the flow table is. No program uses the map.
pub struct Seed(Array<MapData, u64>);

impl Seed {
    /// Opens the map pinned at `pin`, or makes it there.
    pub(in crate::dataplane) fn open(pin: &Path) -> Result<Self, MapOpenError> {
        let layout = |source| MapOpenError::Layout { name: NAME, source };
        let data = match MapData::from_pin(pin) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
                let made = Array::<MapData, u64>::create(1, 0).map_err(layout)?;
                made.pin(pin).map_err(|source| MapOpenError::Pin { name: NAME, source })?;
                MapData::from_pin(pin)
            }
            data => data,
        };
        data.and_then(|data| Array::try_from(Map::Array(data))).map(Self).map_err(layout)
    }

    /// The secret; 0, which a new map holds, is none.
    pub(in crate::dataplane) fn get(&mut self) -> Result<u64, MapAccessError> {
        let there = access(self.0.get(&0, 0), NAME, "read")?;
        if there != 0 {
            return Ok(there);
        }
        let seed = access(random(), NAME, "make a secret for")?;
        access(self.0.set(0, seed, 0), NAME, "write to")?;
        Ok(seed)
    }
}

/// Not 0.
pub(in crate::dataplane) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}
