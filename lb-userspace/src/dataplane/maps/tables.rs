use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::of_maps::ArrayOfMaps;
use aya::maps::{Array, IterableMap as _, MapData};
use lb_common::limits::TABLE_ENTRIES;

use super::names::MAGLEV as NAME;
use super::{MapAccessError, MapOpenError, access, descriptor, take};
use crate::dataplane::batch;

/// Maglev tables, each a map of its own. They are written and not read back: to open an inner map again takes
/// CAP_SYS_ADMIN, which the daemon does not have.
pub struct Tables {
    fd: OwnedFd,
    map: ArrayOfMaps<MapData, Array<MapData, u32>>,
}

impl Tables {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        Ok(Self { fd: descriptor(ebpf, NAME)?, map: take(ebpf, NAME)? })
    }

    /// Puts a table in place with one pointer: the data plane sees the old one or the new one.
    pub fn write(&mut self, table: u32, entries: &[u32]) -> Result<(), MapAccessError> {
        let inner = Array::<MapData, u32>::create(TABLE_ENTRIES, 0);
        let inner = access(inner, NAME, "create a table for")?;
        access(batch::write_array(inner.map().fd().as_fd(), entries), NAME, "fill a table for")?;
        access(self.map.set(table, &inner, 0), NAME, "write to")
    }

    pub fn remove(&mut self, table: u32) -> Result<(), MapAccessError> {
        match batch::delete(self.fd.as_fd(), table) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => access(other, NAME, "remove from"),
        }
    }
}
