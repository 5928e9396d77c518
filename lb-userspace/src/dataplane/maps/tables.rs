use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::of_maps::ArrayOfMaps;
use aya::maps::{Array, IterableMap as _, MapData};
use lb_common::limits::TABLE_ENTRIES;

use super::names::MAGLEV as NAME;
use super::{MapAccessError, MapOpenError, access, descriptor, take};
use crate::dataplane::batch;

/// Tables that are open at once while they are put in place: each takes a descriptor, and 1024 is a usual limit.
const AT_ONCE: usize = 256;

/// Of the kernel's include/linux/errno.h: this type of map has no batches there.
const ENOTSUPP: i32 = 524;

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
        self.write_many(&[(table, entries)])
    }

    /// Puts tables in place, each with one pointer. Many at once, because the kernel waits for a grace period of RCU, some
    /// 10 ms, after each call that writes to an array of maps (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c).
    pub fn write_many(&mut self, tables: &[(u32, &[u32])]) -> Result<(), MapAccessError> {
        for tables in tables.chunks(AT_ONCE) {
            let mut inners = Vec::with_capacity(tables.len());
            for (_, entries) in tables {
                let inner = Array::<MapData, u32>::create(TABLE_ENTRIES, 0);
                let inner = access(inner, NAME, "create a table for")?;
                let filled = batch::write_array(inner.map().fd().as_fd(), entries);
                access(filled, NAME, "fill a table for")?;
                inners.push(inner);
            }
            let numbers: Vec<u32> = tables.iter().map(|(number, _)| *number).collect();
            let maps: Vec<_> = inners.iter().map(|inner| inner.map().fd().as_fd()).collect();
            match batch::write_maps(self.fd.as_fd(), &numbers, &maps) {
                Err(error) if error.raw_os_error() == Some(ENOTSUPP) => {
                    for (number, inner) in numbers.iter().zip(&inners) {
                        access(self.map.set(*number, inner, 0), NAME, "write to")?;
                    }
                }
                written => access(written, NAME, "write to")?,
            }
        }
        Ok(())
    }

    pub fn remove(&mut self, table: u32) -> Result<(), MapAccessError> {
        match batch::delete(self.fd.as_fd(), table) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => access(other, NAME, "remove from"),
        }
    }
}
