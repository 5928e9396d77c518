//! A node with many established flows, and packets of a flood, each from another source. The bench `flood` uses it too.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use evenkeel::dataplane::clock::Clock;
use evenkeel::dataplane::sweep::{Now, Orders};
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::Listener;
use lb_common::addr::Addr;
use lb_common::backend::{Backend, NextHop, RESOLVED, SERVING};
use lb_common::limits::{HALF_OPEN, TABLE_ENTRIES};
use lb_common::reason::Reason;
use lb_common::service::{Method, NO_TABLE, STATELESS, Service};
use lb_common::station::Station;
use nix::time::{ClockId, clock_gettime};

use crate::runner::{Runner, TRANSMIT};

const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BACKENDS: u32 = 100;
const SOURCE: usize = 26;
const DESTINATION: usize = 30;
const PORTS: usize = 34;
const FLAGS: usize = 47;

pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

/// One service for each.
pub(crate) const METHODS: [Method; 2] = [Method::Nat, Method::Tunnel];

pub(crate) struct Siege {
    plane: DataPlane,
    runner: Runner,
    /// Of each method; the next service is that of the next one.
    flows: u32,
    /// Backend of each flow, by the MAC address of its next hop.
    given: Vec<[u8; 6]>,
}

/// What packets cost, by the kernel's clock: one round each, with all that a system call leaves cold.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) packets: u64,
    pub(crate) nanoseconds: u64,
}

impl Cost {
    pub(crate) fn add(&mut self, nanoseconds: u32) {
        self.packets += 1;
        self.nanoseconds += u64::from(nanoseconds);
    }
}

impl Siege {
    /// With so many flows established of each method.
    pub(crate) fn new(flows: u32) -> Self {
        let mut plane =
            DataPlane::load_private(object::EVENKEEL, Sizes::of(8 * flows, 8), HALF_OPEN).unwrap();
        plane.stations.set(&BTreeSet::from([Station { ifindex: 1, address: NODE_MAC, zero: 0 }])).unwrap();
        for number in 0..BACKENDS {
            plane.backends.write(number, &backend(number)).unwrap();
        }
        let table: Vec<u32> = (0..TABLE_ENTRIES).map(|entry| entry % BACKENDS).collect();
        plane.tables.write(0, &table).unwrap();
        for (number, method) in (0..).zip(METHODS) {
            let flags = if method == Method::Tunnel { STATELESS } else { 0 };
            let service = Service {
                previous: NO_TABLE,
                method: method as u8,
                flags,
                half_open: 6000,
                ..Service::default()
            };
            plane.services.write(number, &service).unwrap();
            let listener = Listener { address: Addr::from(address(number)), protocol: 6, port: 80 };
            plane.listeners.write(&listener, number).unwrap();
        }
        let runner = Runner::new(&mut plane, "evenkeel");
        let mut siege = Self { plane, runner, flows, given: Vec::new() };
        siege.establish();
        siege
    }

    fn establish(&mut self) {
        for number in 0..self.flows * METHODS.len() as u32 {
            for flags in [SYN, ACK, ACK] {
                let (action, out) = self.runner.run(&self.client(number, flags));
                assert_eq!(action, TRANSMIT);
                if flags == SYN {
                    self.given.push(out[..6].try_into().unwrap());
                }
            }
        }
        self.grow();
        assert_eq!(self.halves(), self.flows as usize * 3, "two halves by `nat`, one by `tunnel`");
    }

    /// As the daemon's sweep lets the flow table grow.
    fn grow(&mut self) {
        let clock = Clock::measure(&mut self.plane).unwrap();
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        let now = Now { jiffies: clock.jiffies(now.into()), ticks: &|time| clock.ticks(time) };
        self.plane.sweeper.as_mut().unwrap().sweep(&Orders::default(), now, || {});
    }

    /// Halves in the flow table.
    pub(crate) fn halves(&self) -> usize {
        self.plane.sweeper.as_ref().unwrap().ipv4.live().count()
    }

    pub(crate) fn counted(&self, wanted: Reason) -> u64 {
        let counts = self.plane.reasons.read().unwrap();
        counts.into_iter().find(|(reason, _)| *reason == wanted).map_or(0, |(_, count)| count)
    }

    /// Packets of established flows: one of the next flow each time. Each goes where its flow has always gone.
    pub(crate) fn hit(&mut self, number: u32, cost: &mut Cost) {
        let number = number % (self.flows * METHODS.len() as u32);
        let frame = self.client(number, ACK);
        let (action, nanoseconds, length) = self.runner.rounds(&frame, 1).unwrap();
        let out = &self.runner.left(length)[..6];
        assert_eq!((action, out), (TRANSMIT, &self.given[number as usize][..]), "flow {number}");
        cost.add(nanoseconds);
    }

    /// One packet of the flood, from the source of this number.
    pub(crate) fn strike(&mut self, number: u32, flags: u8, cost: &mut Cost) {
        let frame = frame(
            number % METHODS.len() as u32,
            0x0b00_0000 + number,
            1024 + (number % 60_000) as u16,
            flags,
        );
        let (action, nanoseconds, _) = self.runner.rounds(&frame, 1).unwrap();
        assert_eq!(action, TRANSMIT);
        cost.add(nanoseconds);
    }

    /// Every established flow is where it was.
    pub(crate) fn hold(&mut self) {
        let before = self.counted(Reason::Flow);
        let flows = self.flows * METHODS.len() as u32;
        for number in 0..flows {
            self.hit(number, &mut Cost::default());
        }
        assert_eq!(self.counted(Reason::Flow) - before, u64::from(flows), "no flow had to be found anew");
        assert_eq!(self.halves(), self.flows as usize * 3, "the flow table is as full as before");
    }

    fn client(&self, number: u32, flags: u8) -> Vec<u8> {
        let service = number / self.flows;
        frame(service, 0x6440_0000 + (number >> 14), 1024 + (number & 0x3fff) as u16, flags)
    }
}

fn address(service: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xcb00_710a + service)
}

fn backend(number: u32) -> Backend {
    Backend {
        address: Addr::from(Ipv4Addr::new(10, 0, 0, number as u8)),
        tunnel_source: Addr::from(Ipv4Addr::new(10, 9, 0, 1)),
        next_hop: NextHop {
            destination: [2, 0, 0, 0, 1, number as u8],
            source: NODE_MAC,
            ifindex: 1,
            tags: 0,
        },
        mtu: 1500,
        flags: SERVING | RESOLVED,
        identity: 1 + number,
        weight: 1,
        ..Backend::default()
    }
    .with_derived()
}

/// TCP over IPv4. No program here verifies checksums, so none is filled in.
fn frame(service: u32, source: u32, port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&NODE_MAC);
    frame[6..16].copy_from_slice(&[2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0]);
    frame[17] = 46;
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[SOURCE..SOURCE + 4].copy_from_slice(&source.to_be_bytes());
    frame[DESTINATION..DESTINATION + 4].copy_from_slice(&address(service).octets());
    frame[PORTS..PORTS + 2].copy_from_slice(&port.to_be_bytes());
    frame[PORTS + 2..PORTS + 4].copy_from_slice(&80_u16.to_be_bytes());
    frame[FLAGS - 1] = 0x50;
    frame[FLAGS] = flags;
    frame
}
