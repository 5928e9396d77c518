//! Batched map access by `bpf(2)`, which aya does not have yet: one system call for thousands of elements.
//!
//! `BPF_MAP_*_BATCH`, kernel 5.6 and later; see `generic_map_lookup_batch` in kernel/bpf/syscall.c and
//! `__htab_map_lookup_and_delete_batch` in kernel/bpf/hashtab.c.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes};

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;

/// Of the kernel's include/linux/errno.h: this type of map has no batches there.
pub(super) const ENOTSUPP: i32 = 524;

/// Elements asked for at once; more than any bucket of a hash map holds.
pub(super) const CHUNK: usize = 8192;

/// `struct { ... } batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `struct { ... }` of `union bpf_attr` for commands on one element.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Reads a map from its start to its end, a chunk at a time. `P` is what the kernel tells where it is by: four bytes, for
/// arrays and hashes alike, and the last key for a trie.
pub(super) struct Scan<'fd, K, V, P = u32> {
    map: BorrowedFd<'fd>,
    position: Option<P>,
    done: bool,
    keys: Vec<K>,
    values: Vec<V>,
}

impl<'fd, K, V, P> Scan<'fd, K, V, P>
where
    P: FromBytes + IntoBytes + Immutable + Copy,
    K: FromBytes + IntoBytes + Immutable + Copy,
    V: FromBytes + IntoBytes + Immutable + Copy,
{
    pub(super) fn new(map: BorrowedFd<'fd>) -> Self {
        let zeroed = |_| (K::new_zeroed(), V::new_zeroed());
        let (keys, values) = (0..CHUNK).map(zeroed).unzip();
        Self { map, position: None, done: false, keys, values }
    }

    /// The next elements, or `None` after the last.
    pub(super) fn next_chunk(&mut self) -> io::Result<Option<impl Iterator<Item = (&K, &V)>>> {
        if self.done {
            return Ok(None);
        }
        let mut next = P::new_zeroed();
        let mut attr = BatchAttr {
            in_batch: self.position.as_ref().map_or(0, |position| std::ptr::from_ref(position) as u64),
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: CHUNK as u32,
            map_fd: self.map.as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        // SAFETY: both buffers hold CHUNK elements of the map's key and value size, which the typed handles guarantee,
        // as they do for the position.
        match unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) } {
            Ok(_) => self.position = Some(next),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.done = true,
            Err(error) => return Err(error),
        }
        let count = (attr.count as usize).min(CHUNK);
        Ok(Some(self.keys[..count].iter().zip(&self.values[..count])))
    }
}

/// Puts maps into an array of maps.
pub(super) fn write_maps(array: BorrowedFd<'_>, keys: &[u32], maps: &[BorrowedFd<'_>]) -> io::Result<()> {
    let descriptors: Vec<u32> = maps.iter().take(keys.len()).map(|map| map.as_raw_fd() as u32).collect();
    write(array, &keys[..descriptors.len()], &descriptors)
}

/// Both slices are of one length.
fn write(map: BorrowedFd<'_>, keys: &[u32], values: &[u32]) -> io::Result<()> {
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: map.as_raw_fd() as u32,
        ..BatchAttr::default()
    };
    // SAFETY: `keys` and `values` hold `count` elements; the kernel only reads them.
    unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut attr) }.map(drop)
}

/// Whether maps of this kind are read in batches: asks for no element.
pub(super) fn can_read(map: BorrowedFd<'_>) -> io::Result<bool> {
    can(BPF_MAP_LOOKUP_BATCH, map)
}

/// Whether maps of this kind are written in batches.
pub(super) fn can_write(map: BorrowedFd<'_>) -> io::Result<bool> {
    can(BPF_MAP_UPDATE_BATCH, map)
}

fn can(command: libc::c_long, map: BorrowedFd<'_>) -> io::Result<bool> {
    let mut attr = BatchAttr { map_fd: map.as_raw_fd() as u32, ..BatchAttr::default() };
    // SAFETY: a batch of no element has neither keys nor values.
    match unsafe { bpf(command, &mut attr) } {
        Ok(_) => Ok(true),
        // EINVAL is what an unknown command gets.
        Err(error) if [Some(ENOTSUPP), Some(libc::EINVAL)].contains(&error.raw_os_error()) => Ok(false),
        // An empty map is at its end.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Deletes one element of a map with `u32` keys.
pub(super) fn delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        key: std::ptr::from_ref(&key) as u64,
        ..ElementAttr::default()
    };
    // SAFETY: the key is four bytes and outlives the call.
    unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attr) }.map(drop)
}

/// # Safety
/// `attr` is the part of `union bpf_attr` that `command` reads, and its addresses are valid for what the command does.
pub(super) unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: by the caller; the size given is that of `attr`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
