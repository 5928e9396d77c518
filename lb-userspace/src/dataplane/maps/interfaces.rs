use std::collections::BTreeSet;

use aya::Ebpf;
use aya::maps::MapData;
use aya::maps::xdp::DevMapHash;

use super::names::INTERFACES as NAME;
use super::{MapAccessError, MapOpenError, access, removed, take};

/// Interfaces that packets may leave by, by interface index.
pub struct Interfaces(DevMapHash<MapData>);

impl Interfaces {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        take(ebpf, NAME).map(Self)
    }

    /// Makes the map hold these interface indexes and no other.
    pub fn set(&mut self, wanted: &BTreeSet<u32>) -> Result<(), MapAccessError> {
        let present: BTreeSet<u32> = access(self.0.keys().collect(), NAME, "read")?;
        for ifindex in present.difference(wanted) {
            removed(self.0.remove(*ifindex), NAME)?;
        }
        for ifindex in wanted.difference(&present) {
            access(self.0.insert(*ifindex, *ifindex, None, 0), NAME, "write to")?;
        }
        Ok(())
    }
}
