use std::collections::BTreeSet;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use lb_common::station::{self, Station};

use super::names::{OWN, STATIONS as NAME};
use super::{MapAccessError, MapOpenError, access, removed, take};

/// MAC addresses of this node.
pub struct Stations {
    map: HashMap<MapData, Station, u32>,
    /// The program's cache of those it found.
    own: Array<MapData, u64>,
}

impl Stations {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        Ok(Self { map: take(ebpf, NAME)?, own: take(ebpf, OWN)? })
    }

    /// Makes the map hold these and no other.
    pub fn set(&mut self, wanted: &BTreeSet<Station>) -> Result<(), MapAccessError> {
        let present: BTreeSet<Station> = access(self.map.keys().collect(), NAME, "read")?;
        for station in wanted.difference(&present) {
            access(self.map.insert(station, 1, 0), NAME, "write to")?;
        }
        let gone: Vec<&Station> = present.difference(wanted).collect();
        for station in &gone {
            removed(self.map.remove(station), NAME)?;
        }
        if gone.is_empty() {
            return Ok(());
        }
        // Twice: a program that still saw a station that is gone may write it into the cache after the first time.
        for index in (0..station::OWN).chain(0..station::OWN) {
            access(self.own.set(index, 0, 0), OWN, "write to")?;
        }
        Ok(())
    }
}
