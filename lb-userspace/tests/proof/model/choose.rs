//! The scheduler's choice.

use std::net::IpAddr;

use lb_common::addr::{Addr, Address as _, V4};
use lb_common::flow::{FlowKey, Ports};
use lb_common::hash::{flow_hash, source_hash, table_entry};
use lb_common::reason::Reason;
use lb_common::service::Scheduler;

use super::{Model, Tuple, half, reply_of};
use crate::ports::Parsed;
use crate::world::{BACKENDS, KINDS, Kind, MIXED, STILL, Seen, backend_number};

impl Model {
    /// Place of the scheduler's choice among the backends of the service.
    pub(super) fn choose(&self, packet: &Parsed, seen: &Seen, kind: Kind, v6: bool) -> Option<u32> {
        let serves = |index: &u32| self.serving[*index as usize];
        let still = KINDS[STILL].flags == kind.flags;
        let (current, previous) = if still { (Some(MIXED), None) } else { (self.current, self.previous) };
        if !Scheduler::is_hash(kind.scheduler as u8) {
            let chosen = (0..BACKENDS).find(|index| seen.chose(backend_number(kind.reach, v6, *index)));
            let may =
                |index: &u32| serves(index) && current.is_some_and(|table| table == MIXED || table == *index);
            if let Some(chosen) = chosen {
                return Some(chosen).filter(may);
            }
            // It found one that does not serve, if there is one, or was dropped for another reason, if there is none.
            let all =
                (0..BACKENDS).filter(|index| current.is_some_and(|table| table == MIXED || table == *index));
            let some_fails = all.clone().any(|index| !serves(&index)) || current.is_none();
            let taken = |index: &u32| {
                let flow = half(kind, backend_number(kind.reach, v6, *index), 0);
                self.is_taken(packet, &reply_of(&packet.tuple, &flow))
            };
            return match seen.reason {
                Reason::NoBackend if some_fails => None,
                Reason::ReplyTaken => all.clone().filter(serves).find(taken),
                _ => all.clone().find(serves),
            };
        }
        let entry = entry_of(&packet.tuple, kind.scheduler) % BACKENDS;
        let pick =
            |table: Option<u32>| table.map(|table| if table == MIXED { entry } else { table }).filter(serves);
        let (current, previous) = (pick(current), pick(previous));
        let midway = packet.tuple.protocol == 6 || self.shown.contains(&packet.tuple);
        if midway && !packet.is_bare_syn() { previous.or(current) } else { current }
    }

    /// Whether the table of hash schedulers moves this flow.
    pub(super) fn moves(&self, packet: &Parsed, kind: Kind) -> bool {
        let entry = entry_of(&packet.tuple, kind.scheduler) % BACKENDS;
        let pick = |table: Option<u32>| {
            let index = table.map(|table| if table == MIXED { entry } else { table });
            index.filter(|index| self.serving[*index as usize])
        };
        self.previous.is_some() && pick(self.current) != pick(self.previous)
    }
}

/// Both nodes of a pair must agree on it, so the hash is part of the rules.
pub(super) fn entry_of(tuple: &Tuple, scheduler: Scheduler) -> u32 {
    let ports = Ports { source: tuple.source.port().to_be(), destination: tuple.destination.port().to_be() };
    let protocol = u32::from(tuple.protocol);
    let (source, destination) = (Addr::from(tuple.source.ip()), Addr::from(tuple.destination.ip()));
    let hashes = match tuple.source.ip() {
        IpAddr::V4(_) => {
            let (source, destination) = (V4::from_mapped(source), V4::from_mapped(destination));
            [flow_hash(&FlowKey { source, destination, ports, protocol }) >> 32, source_hash(source).into()]
        }
        IpAddr::V6(_) => {
            [flow_hash(&FlowKey { source, destination, ports, protocol }) >> 32, source_hash(source).into()]
        }
    };
    table_entry(hashes[usize::from(scheduler == Scheduler::Source)] as u32)
}
