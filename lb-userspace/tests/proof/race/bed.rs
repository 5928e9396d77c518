//! A service by every method, its clients and backends, and the sweep.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use evenkeel::dataplane::clock::Clock;
use evenkeel::dataplane::flow_table::grace;
use evenkeel::dataplane::flow_table::pool::{Member, Pool};
use evenkeel::dataplane::sweep::{Now, Orders, Sweeper};
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::Listener;
use lb_common::addr::Addr;
use lb_common::backend::{Backend, NextHop, RESOLVED, SERVING};
use lb_common::limits::TABLE_ENTRIES;
use lb_common::service::{MOVED, Method, NO_TABLE, SOURCES, Scheduler, Service, Sources};
use lb_common::station::Station;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::frames::{ACK, FIN, Mac, Packet, RST, SYN, Transport};
use crate::fuzz::Random;
use crate::ports;
use crate::runner::{Runner, TRANSMIT};

const NODE_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(super) const BACKENDS: u32 = 251;
pub(super) const PORT: u16 = 80;
pub(super) const CPUS: usize = 2;
/// One address of `fullnat`, with few ports.
pub(super) const PORTS: u16 = 128;

pub(super) fn address(net: u8, number: u32, v6: bool) -> IpAddr {
    let [.., a, b] = number.to_be_bytes();
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, net.into(), 0, 0, 0, 0, number as u16).into()
    } else {
        Ipv4Addr::new(net, 0, a, b).into()
    }
}

fn service(method: Method, v6: bool) -> SocketAddr {
    SocketAddr::new(address(203, method as u32, v6), PORT)
}

pub(super) fn mac(kind: u8, number: u32) -> Mac {
    [2, 0, 0, kind, (number >> 8) as u8, number as u8]
}

pub(super) fn plane(sizes: Sizes, backends: u32) -> DataPlane {
    let mut plane = DataPlane::load_private(object::EVENKEEL, sizes, 1 << 14).unwrap();
    plane.stations.set(&BTreeSet::from([Station { ifindex: 1, address: NODE_MAC, zero: 0 }])).unwrap();
    for v6 in [false, true] {
        let first = u32::from(v6) * BACKENDS;
        for number in 0..backends {
            plane.backends.write(first + number, &backend(number, v6)).unwrap();
        }
        let entries: Vec<u32> = (0..TABLE_ENTRIES).map(|entry| first + entry % backends).collect();
        plane.tables.write(u32::from(v6), &entries).unwrap();
        plane.pools.write(u32::from(v6), &sources(v6)).unwrap();
        for method in [Method::Nat, Method::Tunnel, Method::FullNat] {
            let number = method as u32 * 2 + u32::from(v6);
            let record = Service {
                table: u32::from(v6),
                previous: NO_TABLE,
                method: method as u8,
                scheduler: Scheduler::Flow as u8,
                flags: MOVED,
                half_open: 1_000_000,
                sources: u32::from(v6),
                ..Service::default()
            };
            plane.services.write(number, &record).unwrap();
            let listener =
                Listener { address: Addr::from(service(method, v6).ip()), protocol: 6, port: PORT };
            plane.listeners.write(&listener, number).unwrap();
        }
    }
    plane
}

fn sources(v6: bool) -> Sources {
    let mut addresses = [Addr::default(); SOURCES];
    addresses[0] = Addr::from(address(172, 1, v6));
    Sources { addresses, count: 1, first_port: 1024, ports: PORTS }
}

fn backend(number: u32, v6: bool) -> Backend {
    Backend {
        address: Addr::from(address(10, number, v6)),
        tunnel_source: Addr::from(address(172, 9, v6)),
        next_hop: NextHop { destination: mac(1, number), source: NODE_MAC, ifindex: 1, tags: 0 },
        mtu: 1500,
        flags: SERVING | RESOLVED,
        identity: 1 + number,
        weight: 1,
        ..Backend::default()
    }
    .with_derived()
}

pub(super) fn packet(client: u16, method: Method, v6: bool, flags: u8) -> Packet {
    Packet {
        to_mac: NODE_MAC,
        from_mac: mac(2, client.into()),
        tags: Vec::new(),
        source: SocketAddr::new(address(100, client.into(), v6), 40_000),
        destination: service(method, v6),
        ttl: 64,
        class: 0,
        dont_fragment: true,
        options: 0,
        transport: Transport::Tcp(flags),
        payload: Vec::new(),
    }
}

/// What a client sends and gets, with the backend that its service's table has for it.
pub(super) struct Flow {
    client: u16,
    sent: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
    pub(super) backend: Mac,
}

const FLAGS: [u8; 6] = [SYN, ACK, ACK, ACK, FIN | ACK, RST];

impl Flow {
    /// Asks the program for the backend while nobody else does.
    pub(super) fn new(runner: &mut Runner, client: u16, method: Method, v6: bool) -> Self {
        let sent: Vec<_> = FLAGS.iter().map(|flags| packet(client, method, v6, *flags).bytes()).collect();
        let (action, out) = runner.run(&sent[0]);
        assert_eq!(action, TRANSMIT);
        let given = out.to_vec();
        let backend: Mac = out[..6].try_into().unwrap();
        let number = u32::from(backend[4]) << 8 | u32::from(backend[5]);
        let back = |flags: &u8| {
            let request = packet(client, method, v6, *flags);
            let source = SocketAddr::new(address(10, number, v6), PORT);
            Packet { from_mac: backend, source, destination: request.source, ..request }
        };
        // With `fullnat` they go to the port that it was given.
        let back = |flags: &u8| match method {
            Method::FullNat => {
                Packet { destination: ports::source_of(&given).unwrap(), ..back(flags) }.bytes()
            }
            _ => back(flags).bytes(),
        };
        let has_replies = matches!(method, Method::Nat | Method::FullNat);
        let replies = if has_replies { FLAGS[1..].iter().map(back).collect() } else { Vec::new() };
        Self { client, sent, replies, backend }
    }

    /// Sends one packet of it, and says whether it was sent on.
    pub(super) fn send(&self, runner: &mut Runner, random: &mut Random) -> bool {
        let (frames, replies) = self.frames(random);
        self.send_one(runner, &frames[random.below(frames.len())], replies)
    }

    /// Sends one that neither opens the flow nor ends it.
    pub(super) fn acknowledge(&self, runner: &mut Runner, random: &mut Random) -> bool {
        let (frames, replies) = self.frames(random);
        let first = usize::from(!replies);
        self.send_one(runner, &frames[first], replies)
    }

    /// Its backend ends it, and its client uses the port anew.
    pub(super) fn begin_anew(&self, runner: &mut Runner) {
        let reset = self.replies.last().unwrap();
        let (syn, ack) = (&self.sent[0], &self.sent[1]);
        for (frame, reply) in [(reset, true), (syn, false), (ack, false)] {
            assert!(self.send_one(runner, frame, reply), "dropped");
        }
    }

    /// Of either direction, and whether it is the one to the client.
    fn frames(&self, random: &mut Random) -> (&[Vec<u8>], bool) {
        let replies = !self.replies.is_empty() && random.below(3) == 0;
        (if replies { &self.replies } else { &self.sent }, replies)
    }

    fn send_one(&self, runner: &mut Runner, frame: &[u8], replies: bool) -> bool {
        let (action, out) = runner.run(frame);
        if action != TRANSMIT {
            return false;
        }
        let wanted = if replies { mac(2, self.client.into()) } else { self.backend };
        assert_eq!(out[..6], wanted, "in  {frame:02x?}\nout {out:02x?}");
        true
    }
}

pub(super) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

pub(super) struct Sweeps {
    pub(super) sweeper: Sweeper,
    clock: Clock,
    orders: Orders,
}

impl Sweeps {
    pub(super) fn new(plane: &mut DataPlane) -> Self {
        let member = |v6: bool| {
            move |number| {
                let address = Addr::from(address(10, number, v6));
                (number + u32::from(v6) * BACKENDS, Member { identity: 1 + number, address, port: 0 })
            }
        };
        let members = (0..BACKENDS).map(member(false)).chain((0..BACKENDS).map(member(true)));
        let sources = [false, true].map(|v6| (u32::from(v6), sources(v6)));
        let orders = Orders { pool: Arc::new(Pool::new(members, sources)), ..Orders::default() };
        Self { clock: Clock::measure(plane).unwrap(), sweeper: plane.sweeper.take().unwrap(), orders }
    }

    pub(super) fn sweep(&mut self, silence: Duration) -> u64 {
        self.sweep_while(silence, grace::wait)
    }

    /// `grace` is called where the sweep waits.
    pub(super) fn sweep_while(&mut self, silence: Duration, grace: impl FnMut()) -> u64 {
        let monotonic = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        let now =
            Now { jiffies: self.clock.jiffies(monotonic + silence), ticks: &|time| self.clock.ticks(time) };
        self.sweeper.sweep(&self.orders, now, grace).expired
    }

    pub(super) fn slots_in_use(&self, v6: bool) -> u32 {
        if v6 { self.sweeper.ipv6.slots_in_use() } else { self.sweeper.ipv4.slots_in_use() }
    }
}

/// Tells the others that a thread has ended, in whatever way.
pub(super) struct Ended<'s>(pub(super) &'s AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
