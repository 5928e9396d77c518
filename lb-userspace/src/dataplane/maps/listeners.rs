use std::collections::BTreeMap;

use aya::Ebpf;
use lb_common::addr::{Addr, Address as _, V4};
use lb_common::service::{self, ListenerKey4, ListenerKey6};

use super::names::{LISTENERS4, LISTENERS6};
use super::near::NearListeners;
use super::{Entries, MapAccessError, MapOpenError};
use crate::desired::Listener;

/// Listen addresses: a map for each family, and a place in front of them where most are found sooner.
pub struct Listeners {
    v4: Entries<ListenerKey4, service::Listener>,
    v6: Entries<ListenerKey6, service::Listener>,
    near: NearListeners,
}

impl Listeners {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        Ok(Self {
            v4: Entries::open(ebpf, LISTENERS4)?,
            v6: Entries::open(ebpf, LISTENERS6)?,
            near: NearListeners::open(ebpf)?,
        })
    }

    /// Puts in front what an earlier daemon left in the maps. Comes before anything is written.
    ///
    /// # Errors
    /// A map can't be read or written.
    pub(in crate::dataplane) fn adopt(&mut self) -> Result<(), MapAccessError> {
        let present = self.read()?;
        self.near.adopt(&present)
    }

    pub fn read(&self) -> Result<BTreeMap<Listener, u32>, MapAccessError> {
        let mut listeners: BTreeMap<Listener, u32> = self.v4.read(|key, value| {
            let ListenerKey4 { address, port, protocol, .. } = *key;
            (Listener { address: address.mapped(), protocol, port: u16::from_be(port) }, value.number)
        })?;
        let v6: Vec<_> = self.v6.read(|key, value| {
            let ListenerKey6 { address, port, protocol, .. } = *key;
            (Listener { address, protocol, port: u16::from_be(port) }, value.number)
        })?;
        listeners.extend(v6);
        Ok(listeners)
    }

    /// What is in front goes first and comes last: whatever fails in between, it says nothing else than the map.
    pub fn write(&mut self, key: &Listener, number: u32) -> Result<(), MapAccessError> {
        let value = service::Listener { number };
        self.near.remove(key)?;
        if key.address.is_v4() {
            self.v4.write(&key4(key), &value)?;
        } else {
            self.v6.write(&key6(key), &value)?;
        }
        self.near.write(key, number)
    }

    pub fn remove(&mut self, key: &Listener) -> Result<(), MapAccessError> {
        self.near.remove(key)?;
        if key.address.is_v4() { self.v4.remove(&key4(key)) } else { self.v6.remove(&key6(key)) }
    }
}

fn key4(key: &Listener) -> ListenerKey4 {
    let Listener { address, protocol, port } = *key;
    ListenerKey4 { address: V4::from_mapped(address), port: port.to_be(), protocol, zero: 0 }
}

fn key6(key: &Listener) -> ListenerKey6 {
    let Listener { address, protocol, port } = *key;
    ListenerKey6 { address: Addr::from_mapped(address), port: port.to_be(), protocol, zero: 0 }
}
