use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use lb_common::service::{ServiceKey, ServiceValue};

use super::names::SERVICES as NAME;
use super::{MapAccessError, MapOpenError, access, removed, take};

/// Listen addresses and how they are forwarded.
pub struct Services(HashMap<MapData, ServiceKey, ServiceValue>);

impl Services {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        take(ebpf, NAME).map(Self)
    }

    pub fn read(&self) -> Result<BTreeMap<ServiceKey, ServiceValue>, MapAccessError> {
        access(self.0.iter().collect(), NAME, "read")
    }

    /// Replaces the whole value at once.
    pub fn write(&mut self, key: &ServiceKey, value: &ServiceValue) -> Result<(), MapAccessError> {
        access(self.0.insert(key, value, 0), NAME, "write to")
    }

    pub fn remove(&mut self, key: &ServiceKey) -> Result<(), MapAccessError> {
        removed(self.0.remove(key), NAME)
    }
}
