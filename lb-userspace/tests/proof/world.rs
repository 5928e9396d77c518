//! A node with services of every kind in both families, all of them turning together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::Listener;
use lb_common::addr::Addr;
use lb_common::backend::{Backend, Encapsulation, NextHop, RESOLVED, SERVING, TAGGED, tags};
use lb_common::limits::TABLE_ENTRIES;
use lb_common::reason::{Reason, Verdict};
use lb_common::service::{
    MOVED, Method, NO_TABLE, PER_PACKET, Range, Ranges, STATELESS, Scheduler, Service, Sources,
};
use lb_common::station::Station;

use crate::frames::Mac;
use crate::runner::{Runner, TRANSMIT};

/// XDP actions.
pub(crate) const DROP: u32 = 1;
pub(crate) const PASS: u32 = 2;
pub(crate) const REDIRECT: u32 = 4;

pub(crate) const NODE_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(crate) const INSIDE_MAC: Mac = [2, 0, 0, 0, 0, 3];
/// What test runs come in by: the loopback interface.
pub(crate) const INTERFACE: u32 = 1;
pub(crate) const MTU: u16 = 1500;
pub(crate) const GUE_PORT: u16 = 6080;
/// Bits of the outer source address that vary by flow, where they do.
pub(crate) const SPREAD: u8 = 6;
/// VLAN of the backends that are reached by GUE.
pub(crate) const VLAN: u16 = 77;

/// Where the backends of a service are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Of the service's own family.
    Plain = 0,
    /// Of the other family.
    Cross = 1,
    Gue = 2,
    GueCross = 3,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) method: Method,
    pub(crate) reach: Reach,
    pub(crate) scheduler: Scheduler,
    pub(crate) flags: u16,
}

const fn kind(method: Method, reach: Reach, scheduler: Scheduler, flags: u16) -> Kind {
    Kind { method, reach, scheduler, flags }
}

/// Three by `nat` over the same backends, so that a client can use one port towards them all.
pub(crate) const KINDS: [Kind; 12] = [
    kind(Method::Nat, Reach::Plain, Scheduler::Flow, MOVED),
    kind(Method::Tunnel, Reach::Plain, Scheduler::Flow, MOVED),
    kind(Method::Direct, Reach::Plain, Scheduler::Flow, MOVED),
    kind(Method::Nat, Reach::Plain, Scheduler::Source, MOVED),
    kind(Method::FullNat, Reach::Plain, Scheduler::Flow, MOVED),
    kind(Method::Tunnel, Reach::Cross, Scheduler::Source, MOVED),
    kind(Method::Tunnel, Reach::Gue, Scheduler::Flow, MOVED),
    kind(Method::Tunnel, Reach::GueCross, Scheduler::Flow, MOVED),
    kind(Method::FullNat, Reach::Plain, Scheduler::Random, MOVED),
    kind(Method::Tunnel, Reach::Plain, Scheduler::Flow, STATELESS),
    kind(Method::Nat, Reach::Plain, Scheduler::Random, MOVED | PER_PACKET),
    kind(Method::Nat, Reach::Plain, Scheduler::Random, MOVED),
];

/// Its table never changes: its SYNs are decided by that.
pub(crate) const STILL: usize = 9;
/// Listens on ranges of ports, and another service on a port within.
pub(crate) const RANGED: usize = 3;
pub(crate) const RANGES: [(u16, u16); 2] = [(1000, 1999), (3000, 3000)];
pub(crate) const WITHIN: (u16, usize) = (1500, 2);

/// Backends of a service.
pub(crate) const BACKENDS: u32 = 3;
/// Of the tables of a service: those with the backend of that number only, and one with all three.
pub(crate) const TABLES: u32 = 4;
pub(crate) const MIXED: u32 = 3;

pub(crate) const PORT: u16 = 80;

pub(crate) fn service_address(service: usize, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 10 + service as u16).into()
    } else {
        Ipv4Addr::new(203, 0, 113, 10 + service as u8).into()
    }
}

pub(crate) fn service_number(service: usize, v6: bool) -> u32 {
    3 + service as u32 * 2 + u32::from(v6)
}

pub(crate) fn backend_number(reach: Reach, v6: bool, index: u32) -> u32 {
    (u32::from(v6) * 4 + reach as u32) * BACKENDS + index
}

fn table_number(reach: Reach, v6: bool, table: u32) -> u32 {
    (u32::from(v6) * 4 + reach as u32) * TABLES + table
}

pub(crate) fn backend_mac(number: u32) -> Mac {
    [2, 0, 0, 0, 1, number as u8]
}

pub(crate) fn backend_ip(number: u32) -> IpAddr {
    let (v6, reach) = (number / BACKENDS / 4 == 1, number / BACKENDS % 4);
    if v6 ^ (reach == Reach::Cross as u32 || reach == Reach::GueCross as u32) {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100 + number as u16).into()
    } else {
        Ipv4Addr::new(10, 0, 1, number as u8).into()
    }
}

/// The last of three is sent the port that the client wrote.
pub(crate) fn backend_port(number: u32, port: u16) -> u16 {
    if number % BACKENDS == 2 { port } else { 8080 + (number % BACKENDS) as u16 }
}

pub(crate) fn backend_tags(number: u32) -> u32 {
    if number / BACKENDS % 4 == Reach::Gue as u32 { tags(0, TAGGED | VLAN) } else { 0 }
}

pub(crate) fn tunnel_source(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, 64).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, 0).into(),
    }
}

/// Addresses that `fullnat` gives to flows.
pub(crate) fn pool(v6: bool) -> [IpAddr; 2] {
    [1, 2].map(|last| {
        if v6 {
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 9, last).into()
        } else {
            Ipv4Addr::new(10, 0, 9, last as u8).into()
        }
    })
}

pub(crate) const FIRST_PORT: u16 = 2000;
pub(crate) const PORTS: u16 = 60_000;

pub(crate) fn backend(number: u32) -> Backend {
    let (ip, reach) = (backend_ip(number), number / BACKENDS % 4);
    let gue = reach == Reach::Gue as u32 || reach == Reach::GueCross as u32;
    Backend {
        address: Addr::from(ip),
        tunnel_source: Addr::from(tunnel_source(ip)),
        next_hop: NextHop {
            destination: backend_mac(number),
            source: INSIDE_MAC,
            ifindex: INTERFACE,
            tags: backend_tags(number),
        },
        port: backend_port(number, 0).to_be(),
        mtu: MTU,
        flags: SERVING | RESOLVED,
        identity: 1000 + number,
        weight: 1,
        encapsulation: if gue { Encapsulation::Gue } else { Encapsulation::Ip } as u8,
        gue_port: GUE_PORT.to_be(),
        spread: if gue { SPREAD } else { 0 },
        ..Backend::default()
    }
    .with_derived()
}

/// What the node did with a frame.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) reason: Reason,
    pub(crate) frame: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) plane: DataPlane,
    pub(crate) runner: Runner,
    counted: BTreeMap<u32, u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut plane =
            DataPlane::load_private(object::EVENKEEL, Sizes::of(1 << 18, 1 << 18), 1 << 16).unwrap();
        let station = |address| Station { ifindex: INTERFACE, address, zero: 0 };
        plane.stations.set(&BTreeSet::from([station(NODE_MAC), station(INSIDE_MAC)])).unwrap();
        for number in 0..8 * BACKENDS {
            plane.backends.write(number, &backend(number)).unwrap();
        }
        for v6 in [false, true] {
            let mut addresses = [Addr::default(); lb_common::service::SOURCES];
            addresses[..2].copy_from_slice(&pool(v6).map(Addr::from));
            let sources = Sources { addresses, count: 2, first_port: FIRST_PORT, ports: PORTS };
            plane.pools.write(u32::from(v6), &sources).unwrap();
        }
        let runner = Runner::new(&mut plane, "evenkeel");
        let mut world = Self { plane, runner, counted: BTreeMap::new() };
        world.tables();
        world.listen();
        world.turn(Some(0), None);
        world
    }

    fn tables(&mut self) {
        let reaches = [Reach::Plain, Reach::Cross, Reach::Gue, Reach::GueCross];
        let all = reaches.into_iter().flat_map(|reach| [(reach, false), (reach, true)]);
        let mut tables = Vec::new();
        for (reach, v6) in all {
            for table in 0..TABLES {
                let backend =
                    |entry| backend_number(reach, v6, if table == MIXED { entry % BACKENDS } else { table });
                let entries: Vec<u32> = (0..TABLE_ENTRIES).map(backend).collect();
                tables.push((table_number(reach, v6, table), entries));
            }
        }
        let tables: Vec<(u32, &[u32])> =
            tables.iter().map(|(number, entries)| (*number, &entries[..])).collect();
        self.plane.tables.write_many(&tables).unwrap();
    }

    fn listen(&mut self) {
        for (service, v6, protocol) in every_listener() {
            let (address, number) = (Addr::from(service_address(service, v6)), service_number(service, v6));
            let port = if service == RANGED { 0 } else { PORT };
            let record = u32::from(v6);
            let under = if service == RANGED { record } else { number };
            self.plane.listeners.write(&Listener { address, protocol, port }, under).unwrap();
            if service != RANGED {
                continue;
            }
            let within = Listener { address, protocol, port: WITHIN.0 };
            self.plane.listeners.write(&within, service_number(WITHIN.1, v6)).unwrap();
            let mut ranges = Ranges::default();
            for (range, (first, last)) in ranges.ranges.iter_mut().zip(RANGES) {
                *range = Range { first, last, service: number };
            }
            self.plane.ranges.write(record, &ranges).unwrap();
        }
    }

    /// Every service but [`STILL`] goes by the table `current` from now on, and what is midway by `previous`.
    pub(crate) fn turn(&mut self, current: Option<u32>, previous: Option<u32>) {
        for (service, v6, _) in every_listener().filter(|(_, _, protocol)| *protocol == 6) {
            let Kind { method, reach, scheduler, flags } = KINDS[service];
            let (current, previous) =
                if service == STILL { (Some(MIXED), None) } else { (current, previous) };
            let table = |table: Option<u32>| table.map_or(NO_TABLE, |table| table_number(reach, v6, table));
            let record = Service {
                table: table(current),
                previous: table(previous),
                method: method as u8,
                scheduler: scheduler as u8,
                flags,
                half_open: 1_000_000,
                sources: u32::from(v6),
                ..Service::default()
            };
            self.plane.services.write(service_number(service, v6), &record).unwrap();
        }
    }

    /// Whether all backends with this place among the three of their service serve.
    pub(crate) fn serve(&mut self, index: u32, serves: bool) {
        for number in (index..8 * BACKENDS).step_by(BACKENDS as usize) {
            let record = backend(number);
            let flags = if serves { record.flags } else { record.flags & !SERVING };
            self.plane.backends.write(number, &Backend { flags, ..record }).unwrap();
        }
    }

    /// Runs a frame, and holds what is true of every packet: one reason is counted once, the action is the one of that
    /// reason, a packet that is left to the kernel is left as it came, and the program has met nothing it never should.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Seen {
        let (action, out) = self.runner.run(frame);
        let out = out.to_vec();
        let reason = self.counted();
        holds_for_every_packet(frame, action, reason, &out);
        Seen { reason, frame: out }
    }

    fn counted(&mut self) -> Reason {
        let counts = self.plane.reasons.read().unwrap();
        let mut grown = counts.iter().filter_map(|(reason, count)| {
            let before = self.counted.insert(*reason as u32, *count).unwrap_or(0);
            (*count != before).then_some((*reason, count - before))
        });
        let Some((reason, 1)) = grown.next() else {
            panic!("no reason, or one more than once, for one packet")
        };
        let others: Vec<_> = grown.collect();
        assert!(others.is_empty(), "{reason:?} and {others:?} for one packet");
        reason
    }
}

/// Of any frame.
pub(crate) fn holds_for_every_packet(frame: &[u8], action: u32, reason: Reason, out: &[u8]) {
    let fits = match reason.verdict() {
        Verdict::Forward => [TRANSMIT, REDIRECT].contains(&action),
        Verdict::Pass => action == PASS && out == frame,
        Verdict::Answer => action == TRANSMIT,
        Verdict::Drop => action == DROP,
    };
    assert!(
        fits && reason != Reason::Internal,
        "{reason:?} with action {action}\nin  {frame:02x?}\nout {out:02x?}"
    );
}

fn every_listener() -> impl Iterator<Item = (usize, bool, u8)> {
    let families = |service| [(service, false), (service, true)];
    (0..KINDS.len()).flat_map(families).flat_map(|(service, v6)| [(service, v6, 6), (service, v6, 17)])
}
