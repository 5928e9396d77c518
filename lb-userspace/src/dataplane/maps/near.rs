//! Listen addresses in front of the hash maps: see [`lb_common::service::Near`].

use std::collections::BTreeMap;

use aya::Ebpf;
use lb_common::addr::{Addr, Address as _, V4};
use lb_common::service::{Near, near};

use super::names::NEAR;
use super::{MapAccessError, MapOpenError, Records};
use crate::dataplane::flow_table::grace;
use crate::desired::Listener;

pub(super) struct NearListeners {
    records: Records<Near>,
    /// Who was given a place since this was opened.
    given: BTreeMap<u32, Listener>,
}

impl NearListeners {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        Ok(Self { records: Records::open(ebpf, NEAR)?, given: BTreeMap::new() })
    }

    /// Makes what an earlier daemon left agree with the hash maps, which hold `present`.
    pub(super) fn adopt(&mut self, present: &BTreeMap<Listener, u32>) -> Result<(), MapAccessError> {
        let mut cleared = false;
        for (place, record) in self.records.read()? {
            let key = key(&record);
            if record.number != 0 && present.get(&key) == Some(&(record.number - 1)) {
                self.given.insert(place, key);
            } else {
                self.records.clear(place)?;
                cleared = true;
            }
        }
        if cleared {
            // Whoever still reads a number there must have gone before the place is another's.
            grace::wait();
        }
        present.iter().try_for_each(|(key, number)| self.write(key, *number))
    }

    /// Does nothing if the place is another's, or was since this was opened: the hash map has it. Nor for ranges, which
    /// nobody looks for here.
    pub(super) fn write(&mut self, key: &Listener, number: u32) -> Result<(), MapAccessError> {
        let place = place(key);
        if key.port == 0 || self.given.entry(place).or_insert(*key) != key {
            return Ok(());
        }
        // The number last: whoever sees it sees the rest.
        self.records.write(place, &record(key, 0))?;
        self.records.write(place, &record(key, number + 1))
    }

    pub(super) fn remove(&mut self, key: &Listener) -> Result<(), MapAccessError> {
        let place = place(key);
        if self.given.get(&place) != Some(key) {
            return Ok(());
        }
        self.records.write(place, &record(key, 0))
    }
}

fn place(key: &Listener) -> u32 {
    let port = key.port.to_be();
    if key.address.is_v4() {
        near(V4::from_mapped(key.address), port, key.protocol)
    } else {
        near::<Addr>(key.address, port, key.protocol)
    }
}

fn record(key: &Listener, number: u32) -> Near {
    Near { address: key.address, port: key.port.to_be(), protocol: key.protocol, zero: 0, number }
}

fn key(record: &Near) -> Listener {
    let Near { address, port, protocol, .. } = *record;
    Listener { address, protocol, port: u16::from_be(port) }
}
