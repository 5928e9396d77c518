use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use lb_common::flow::{FlowKey, FlowValue};

use super::names::FLOWS as NAME;
use super::{MapAccessError, MapOpenError, access, descriptor, removed, take};
use crate::dataplane::batch::Scan;

/// The flow table. The data plane inserts; whoever holds this removes.
pub struct Flows {
    fd: OwnedFd,
    map: HashMap<MapData, FlowKey, FlowValue>,
}

impl Flows {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        Ok(Self { fd: descriptor(ebpf, NAME)?, map: take(ebpf, NAME)? })
    }

    /// Calls `visit` for every entry, thousands by one system call. Entries that come and go meanwhile may be missed or
    /// seen twice.
    pub fn for_each(&self, visit: impl FnMut(&FlowKey, &FlowValue)) -> Result<(), MapAccessError> {
        access(self.scan(visit), NAME, "read")
    }

    fn scan(&self, mut visit: impl FnMut(&FlowKey, &FlowValue)) -> io::Result<()> {
        let mut scan = Scan::<FlowKey, FlowValue>::new(self.fd.as_fd());
        while let Some(chunk) = scan.next_chunk()? {
            chunk.for_each(|(key, value)| visit(key, value));
        }
        Ok(())
    }

    pub fn get(&self, key: &FlowKey) -> Result<Option<FlowValue>, MapAccessError> {
        match self.map.get(key, 0) {
            Err(MapError::KeyNotFound) => Ok(None),
            other => access(other, NAME, "read").map(Some),
        }
    }

    pub fn remove(&mut self, key: &FlowKey) -> Result<(), MapAccessError> {
        removed(self.map.remove(key), NAME)
    }
}
