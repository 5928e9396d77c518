//! Where the tables in force would send a flow: flows that are elsewhere are why a service's SYNs ask the flow table.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::addr::{Addr, Address, V4};
use lb_common::flow::{FlowKey, MappedKey};
use lb_common::hash::{flow_hash, source_hash, table_entry};
use lb_common::service::{Range, Ranges, Scheduler, Service};

use super::plan::Actual;
use crate::desired::Listener;

/// Listen addresses and tables as they are now.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    listeners: BTreeMap<Listener, u32>,
    ranges: BTreeMap<u32, Ranges>,
    /// By number of the service.
    picks: BTreeMap<u32, Pick>,
}

/// How a service's backend is picked.
#[derive(Debug, Clone)]
struct Pick {
    scheduler: u8,
    /// `None`: its contents are unknown.
    table: Option<Arc<[u32]>>,
}

impl Expected {
    #[must_use]
    pub fn of(actual: &Actual) -> Self {
        let pick = |record: &Service| {
            let table = actual.tables.get(&record.table).filter(|entries| !entries.is_empty());
            Pick { scheduler: record.scheduler, table: table.cloned() }
        };
        Self {
            listeners: actual.listeners.clone(),
            ranges: actual.ranges.clone(),
            picks: actual.services.iter().map(|(number, record)| (*number, pick(record))).collect(),
        }
    }

    /// Number of the service whose table does not lead the flow of this key, the client's, to `backend`; `None` if it does,
    /// or no table tells.
    #[must_use]
    pub fn misplaced(&self, key: &MappedKey, backend: u32) -> Option<u32> {
        let service = self.service(key)?;
        let Pick { scheduler, table } = self.picks.get(&service)?;
        if !Scheduler::is_hash(*scheduler) {
            return None;
        }
        let by_source = *scheduler == Scheduler::Source as u8;
        let hash =
            if key.destination.is_v4() { hash::<V4>(key, by_source) } else { hash::<Addr>(key, by_source) };
        let there = table.as_ref().and_then(|table| table.get(table_entry(hash) as usize));
        (there != Some(&backend)).then_some(service)
    }

    fn service(&self, key: &MappedKey) -> Option<u32> {
        let port = u16::from_be(key.ports.destination);
        let listener = |port| Listener { address: key.destination, protocol: key.protocol as u8, port };
        if port != 0
            && let Some(service) = self.listeners.get(&listener(port))
        {
            return Some(*service);
        }
        let ranges = self.ranges.get(self.listeners.get(&listener(0))?)?;
        let within = |range: &&Range| range.last != 0 && range.first <= port && port <= range.last;
        ranges.ranges.iter().find(within).map(|range| range.service)
    }
}

fn hash<A: Address>(key: &MappedKey, by_source: bool) -> u32 {
    let source = A::from_mapped(key.source);
    if by_source {
        return source_hash(source);
    }
    let destination = A::from_mapped(key.destination);
    (flow_hash(&FlowKey { source, destination, ports: key.ports, protocol: key.protocol }) >> 32) as u32
}
