use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::{Array, MapData};
use aya::{Ebpf, Pod};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{MapAccessError, MapOpenError, access, descriptor, take};
use crate::dataplane::batch::Scan;

/// An array of records by number; a record of zeros is none.
pub struct Records<T: Pod> {
    name: &'static str,
    fd: OwnedFd,
    map: Array<MapData, T>,
}

impl<T: Pod + FromBytes + IntoBytes + Immutable> Records<T> {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, MapOpenError> {
        Ok(Self { name, fd: descriptor(ebpf, name)?, map: take(ebpf, name)? })
    }

    /// Records in use.
    pub fn read(&self) -> Result<BTreeMap<u32, T>, MapAccessError> {
        access(self.scan(), self.name, "read")
    }

    fn scan(&self) -> io::Result<BTreeMap<u32, T>> {
        let mut records = BTreeMap::new();
        let mut scan = Scan::<u32, T>::new(self.fd.as_fd());
        while let Some(chunk) = scan.next_chunk()? {
            let used = chunk.filter(|(_, record)| record.as_bytes().iter().any(|byte| *byte != 0));
            records.extend(used.map(|(number, record)| (*number, *record)));
        }
        Ok(records)
    }

    /// The data plane reads a record while it is written, so it may see some fields as they were and some as they are. The
    /// kernel copies with `memcpy` (`copy_map_value` in include/linux/bpf.h), which moves aligned words whole.
    pub fn write(&mut self, number: u32, record: &T) -> Result<(), MapAccessError> {
        access(self.map.set(number, record, 0), self.name, "write to")
    }

    pub fn clear(&mut self, number: u32) -> Result<(), MapAccessError> {
        self.write(number, &T::new_zeroed())
    }
}
