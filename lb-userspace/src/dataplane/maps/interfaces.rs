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
        let mut present = BTreeSet::new();
        let mut right = BTreeSet::new();
        for entry in self.0.iter() {
            let (key, value) = access(entry, NAME, "read")?;
            present.insert(key);
            if value.if_index == key && value.prog_id.is_none() {
                right.insert(key);
            }
        }
        for ifindex in present.difference(wanted) {
            removed(self.0.remove(*ifindex), NAME)?;
        }
        for ifindex in wanted.difference(&right) {
            access(self.0.insert(*ifindex, *ifindex, None, 0), NAME, "write to")?;
        }
        Ok(())
    }
}
