use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::maps::of_maps::ArrayOfMaps;
use aya::maps::{Array, IterableMap as _, MapData};
use lb_common::limits::TABLE_ENTRIES;

use super::names::MAGLEV as NAME;
use super::{MapAccessError, MapOpenError, access, descriptor, take};
use crate::dataplane::batch::{self, ENOTSUPP};

/// Tables that are open at once while they are put in place: each takes a descriptor, and 1024 is a usual limit.
const AT_ONCE: usize = 256;

/// Of the kernel's include/uapi/linux/bpf.h; the template in the program has it too, or the kernel refuses the table.
const BPF_F_MMAPABLE: u32 = 1 << 10;
/// An element of an array is as long as its value, rounded up to this (`array_map_alloc` in kernel/bpf/arraymap.c).
const ELEMENT: usize = 8;

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
                let inner = Array::<MapData, u32>::create(TABLE_ENTRIES, BPF_F_MMAPABLE);
                let inner = access(inner, NAME, "create a table for")?;
                access(fill(inner.map().fd().as_fd(), entries), NAME, "fill a table for")?;
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

/// Writes the entries of a table that nobody reads yet into its memory, without a system call an entry.
fn fill(table: BorrowedFd<'_>, entries: &[u32]) -> io::Result<()> {
    let length = TABLE_ENTRIES as usize * ELEMENT;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of a file that is open, wherever the kernel puts it.
    let memory = unsafe {
        libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, table.as_raw_fd(), 0)
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    for (entry, number) in entries.iter().take(TABLE_ENTRIES as usize).enumerate() {
        // SAFETY: the element lies within the mapping, which is aligned to a page.
        unsafe { memory.byte_add(entry * ELEMENT).cast::<u32>().write(*number) };
    }
    // SAFETY: the mapping made above, which nothing refers to any more.
    match unsafe { libc::munmap(memory, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
