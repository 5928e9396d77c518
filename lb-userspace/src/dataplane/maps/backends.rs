use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{Array, MapData};
use lb_common::backend::Backend;

use super::names::BACKENDS as NAME;
use super::{MapAccessError, MapOpenError, access, descriptor, take};
use crate::dataplane::batch::Scan;

/// Backends by number; a record of zeros is a free number.
pub struct Backends {
    fd: OwnedFd,
    map: Array<MapData, Backend>,
}

impl Backends {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        Ok(Self { fd: descriptor(ebpf, NAME)?, map: take(ebpf, NAME)? })
    }

    /// Records in use.
    pub fn read(&self) -> Result<BTreeMap<u32, Backend>, MapAccessError> {
        access(self.scan(), NAME, "read")
    }

    fn scan(&self) -> io::Result<BTreeMap<u32, Backend>> {
        let mut records = BTreeMap::new();
        let mut scan = Scan::<u32, Backend>::new(self.fd.as_fd());
        while let Some(chunk) = scan.next_chunk()? {
            records.extend(chunk.filter(|(_, record)| **record != Backend::default()).map(|(n, r)| (*n, *r)));
        }
        Ok(records)
    }

    pub fn write(&mut self, number: u32, record: &Backend) -> Result<(), MapAccessError> {
        access(self.map.set(number, record, 0), NAME, "write to")
    }
}
