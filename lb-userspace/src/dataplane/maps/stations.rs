use std::collections::BTreeSet;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use lb_common::station::Station;

use super::names::STATIONS as NAME;
use super::{MapAccessError, MapOpenError, access, removed, take};

/// MAC addresses of this node.
pub struct Stations(HashMap<MapData, Station, u32>);

impl Stations {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        take(ebpf, NAME).map(Self)
    }

    /// Makes the map hold these and no other.
    pub fn set(&mut self, wanted: &BTreeSet<Station>) -> Result<(), MapAccessError> {
        let present: BTreeSet<Station> = access(self.0.keys().collect(), NAME, "read")?;
        for station in wanted.difference(&present) {
            access(self.0.insert(station, 1, 0), NAME, "write to")?;
        }
        for station in present.difference(wanted) {
            removed(self.0.remove(station), NAME)?;
        }
        Ok(())
    }
}
