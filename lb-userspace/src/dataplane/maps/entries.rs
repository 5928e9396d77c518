use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::{HashMap, MapData};
use aya::{Ebpf, Pod};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{MapAccessError, MapOpenError, access, descriptor, removed, take};
use crate::dataplane::batch::Scan;

/// A hash that user space alone writes to.
pub struct Entries<K: Pod, V: Pod> {
    name: &'static str,
    fd: OwnedFd,
    map: HashMap<MapData, K, V>,
}

impl<K, V> Entries<K, V>
where
    K: Pod + FromBytes + IntoBytes + Immutable,
    V: Pod + FromBytes + IntoBytes + Immutable,
{
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, MapOpenError> {
        Ok(Self { name, fd: descriptor(ebpf, name)?, map: take(ebpf, name)? })
    }

    /// Every entry, as `map` has it.
    pub fn read<C: FromIterator<T>, T>(&self, map: impl Fn(&K, &V) -> T) -> Result<C, MapAccessError> {
        access(self.scan(map), self.name, "read").map(C::from_iter)
    }

    fn scan<T>(&self, map: impl Fn(&K, &V) -> T) -> io::Result<Vec<T>> {
        let mut entries = Vec::new();
        let mut scan = Scan::<K, V>::new(self.fd.as_fd());
        while let Some(chunk) = scan.next_chunk()? {
            entries.extend(chunk.map(|(key, value)| map(key, value)));
        }
        Ok(entries)
    }

    /// Replaces the whole value at once.
    pub fn write(&mut self, key: &K, value: &V) -> Result<(), MapAccessError> {
        access(self.map.insert(key, value, 0), self.name, "write to")
    }

    pub fn remove(&mut self, key: &K) -> Result<(), MapAccessError> {
        removed(self.map.remove(key), self.name)
    }
}
