use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::MapData;
use aya::maps::lpm_trie::{Key, LpmTrie};
use lb_common::addr::Addr;
use lb_common::service::SourceKey;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::names::SOURCES as NAME;
use super::{MapAccessError, MapOpenError, access, descriptor, removed, take};
use crate::dataplane::batch::Scan;
use crate::desired::SourcePrefix;

/// Who of the sources of a service is allowed and who is not, by longest prefix.
pub struct Sources {
    fd: OwnedFd,
    map: LpmTrie<MapData, SourceKey, u32>,
}

/// A key as the kernel has it: `struct bpf_lpm_trie_key`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct TrieKey {
    length: u32,
    service: u32,
    network: Addr,
}

/// The number of the service comes before the address, and is always compared whole.
const SERVICE_BITS: u32 = 32;

impl Sources {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        Ok(Self { fd: descriptor(ebpf, NAME)?, map: take(ebpf, NAME)? })
    }

    /// By service and prefix.
    pub fn read(&self) -> Result<BTreeMap<(u32, SourcePrefix), u32>, MapAccessError> {
        access(self.scan(), NAME, "read")
    }

    fn scan(&self) -> io::Result<BTreeMap<(u32, SourcePrefix), u32>> {
        let mut sources = BTreeMap::new();
        let mut scan = Scan::<TrieKey, u32, TrieKey>::new(self.fd.as_fd());
        while let Some(chunk) = scan.next_chunk()? {
            sources.extend(chunk.map(|(key, word)| {
                let length = key.length.saturating_sub(SERVICE_BITS).min(128) as u8;
                ((key.service, SourcePrefix { network: key.network, length }), *word)
            }));
        }
        Ok(sources)
    }

    pub fn write(&mut self, service: u32, prefix: &SourcePrefix, word: u32) -> Result<(), MapAccessError> {
        access(self.map.insert(&key(service, prefix), word, 0), NAME, "write to")
    }

    pub fn remove(&mut self, service: u32, prefix: &SourcePrefix) -> Result<(), MapAccessError> {
        removed(self.map.remove(&key(service, prefix)), NAME)
    }
}

fn key(service: u32, prefix: &SourcePrefix) -> Key<SourceKey> {
    Key::new(SERVICE_BITS + u32::from(prefix.length), SourceKey { service, address: prefix.network })
}
