//! Several CPUs, and the sweep, at the same few sets of flows at once.
//!
//! Every client has one backend by the table of its service, which does not change, and a router of its own. So a packet
//! that goes elsewhere went by a slot that was not its flow's.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel::dataplane::clock::Clock;
use evenkeel::dataplane::flow_table::grace;
use evenkeel::dataplane::flow_table::pool::{Member, Pool};
use evenkeel::dataplane::sweep::{Now, Orders, Sweeper};
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::Listener;
use lb_common::addr::Addr;
use lb_common::backend::{Backend, NextHop, RESOLVED, SERVING};
use lb_common::limits::TABLE_ENTRIES;
use lb_common::reason::Reason;
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
const BACKENDS: u32 = 251;
const PORT: u16 = 80;
/// More halves than the two sets of the table have slots.
const CLIENTS: u16 = 24;
const CPUS: usize = 2;
const LASTS: Duration = Duration::from_secs(6);
/// One address of `fullnat`, with few ports.
const PORTS: u16 = 128;

fn address(net: u8, number: u32, v6: bool) -> IpAddr {
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

fn mac(kind: u8, number: u32) -> Mac {
    [2, 0, 0, kind, (number >> 8) as u8, number as u8]
}

fn plane(sizes: Sizes, backends: u32) -> DataPlane {
    let mut plane = DataPlane::load_private(object::EVENKEEL, sizes, 1 << 14).unwrap();
    plane.stations.set(&BTreeSet::from([Station { ifindex: 1, address: NODE_MAC, zero: 0 }])).unwrap();
    for v6 in [false, true] {
        let first = u32::from(v6) * BACKENDS;
        for number in 0..backends {
            plane.backends.write(first + number, &backend(number, v6)).unwrap();
        }
        let entries: Vec<u32> = (0..TABLE_ENTRIES).map(|entry| first + entry % backends).collect();
        plane.tables.write(u32::from(v6), &entries).unwrap();
        let mut addresses = [Addr::default(); SOURCES];
        addresses[0] = Addr::from(address(172, 1, v6));
        let pool = Sources { addresses, count: 1, first_port: 1024, ports: PORTS };
        plane.pools.write(u32::from(v6), &pool).unwrap();
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

fn packet(client: u16, method: Method, v6: bool, flags: u8) -> Packet {
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
struct Flow {
    client: u16,
    sent: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
    backend: Mac,
}

const FLAGS: [u8; 6] = [SYN, ACK, ACK, ACK, FIN | ACK, RST];

impl Flow {
    /// Asks the program for the backend while nobody else does.
    fn new(runner: &mut Runner, client: u16, method: Method, v6: bool) -> Self {
        let sent: Vec<_> = FLAGS.iter().map(|flags| packet(client, method, v6, *flags).bytes()).collect();
        let (action, out) = runner.run(&sent[0]);
        assert_eq!(action, TRANSMIT);
        let backend: Mac = out[..6].try_into().unwrap();
        let number = u32::from(backend[4]) << 8 | u32::from(backend[5]);
        let back = |flags: &u8| {
            let request = packet(client, method, v6, *flags);
            let source = SocketAddr::new(address(10, number, v6), PORT);
            Packet { from_mac: backend, source, destination: request.source, ..request }.bytes()
        };
        let replies = if method == Method::Nat { FLAGS[1..].iter().map(back).collect() } else { Vec::new() };
        Self { client, sent, replies, backend }
    }

    /// Sends one packet of it, and says whether it was sent on.
    fn send(&self, runner: &mut Runner, random: &mut Random) -> bool {
        let replies = !self.replies.is_empty() && random.below(3) == 0;
        let frames = if replies { &self.replies } else { &self.sent };
        let frame = &frames[random.below(frames.len())];
        let (action, out) = runner.run(frame);
        if action != TRANSMIT {
            return false;
        }
        let wanted = if replies { mac(2, self.client.into()) } else { self.backend };
        assert_eq!(out[..6], wanted, "in  {frame:02x?}\nout {out:02x?}");
        true
    }
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

struct Sweeps {
    sweeper: Sweeper,
    clock: Clock,
    orders: Orders,
}

impl Sweeps {
    fn new(plane: &mut DataPlane) -> Self {
        let member = |v6: bool| {
            move |number| {
                let address = Addr::from(address(10, number, v6));
                (number + u32::from(v6) * BACKENDS, Member { identity: 1 + number, address, port: 0 })
            }
        };
        let members = (0..BACKENDS).map(member(false)).chain((0..BACKENDS).map(member(true)));
        let orders = Orders { pool: Arc::new(Pool::new(members, [])), ..Orders::default() };
        Self { clock: Clock::measure(plane).unwrap(), sweeper: plane.sweeper.take().unwrap(), orders }
    }

    fn sweep(&mut self, silence: Duration) -> u64 {
        let monotonic = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        let now =
            Now { jiffies: self.clock.jiffies(monotonic + silence), ticks: &|time| self.clock.ticks(time) };
        self.sweeper.sweep(&self.orders, now, grace::wait).expired
    }
}

fn hammer(v6: bool) {
    let mut plane = plane(Sizes { sets4: 2, sets6: 2 }, BACKENDS);
    let mut runner = Runner::new(&mut plane, "evenkeel");
    let flows: Vec<Flow> = [Method::Nat, Method::Tunnel]
        .into_iter()
        .flat_map(|method| (0..CLIENTS).map(move |client| (client + method as u16 * 1000, method)))
        .map(|(client, method)| Flow::new(&mut runner, client, method, v6))
        .collect();
    let different: BTreeSet<_> = flows.iter().map(|flow| flow.backend).collect();
    assert!(different.len() > flows.len() / 2, "backends tell flows apart");
    let mut sweeps = Sweeps::new(&mut plane);
    let (sent, stop, until) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now() + LASTS);
    let mut expired = 0;
    thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (mut runner, flows, sent, stop) = (Runner::new(&mut plane, "evenkeel"), &flows, &sent, &stop);
            scope.spawn(move || {
                let ended = Ended(stop);
                pin(cpu);
                let mut random = Random(cpu as u64 + 1);
                while Instant::now() < until && !stop.load(Relaxed) {
                    for _ in 0..256 {
                        let flow = &flows[random.below(flows.len())];
                        sent.fetch_add(flow.send(&mut runner, &mut random).into(), Relaxed);
                    }
                }
                drop(ended);
            });
        }
        let mut random = Random(99);
        while !stop.load(Relaxed) {
            expired += sweeps.sweep(Duration::from_secs(random.of_silences()));
        }
    });
    let counts = plane.reasons.read().unwrap();
    let count = |wanted| counts.iter().find(|(reason, _)| *reason == wanted).map_or(0, |(_, count)| *count);
    println!("{} sent on, {expired} flows expired, {} new", sent.into_inner(), count(Reason::NewFlow));
    assert!(
        count(Reason::Flow) > 1000
            && count(Reason::Reply) > 1000
            && count(Reason::NewFlow) > 200
            && expired > 100
    );
    assert_eq!(count(Reason::Internal), 0);
}

/// Tells the others that a thread has ended, in whatever way.
struct Ended<'s>(&'s AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Random {
    /// Long enough for nothing, for what has ended, or for all to expire.
    fn of_silences(&mut self) -> u64 {
        [0, 11, 130, 2000][self.below(4)]
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_packet_goes_by_a_slot_that_was_never_its_flows_in_ipv4() {
    hammer(false);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_packet_goes_by_a_slot_that_was_never_its_flows_in_ipv6() {
    hammer(true);
}

/// Runs it on every CPU at once, `rounds` times, each round beginning together.
fn together(plane: &mut DataPlane, rounds: u16, each: impl Fn(usize, u16, &mut Runner) + Sync) {
    let barrier = Barrier::new(CPUS);
    thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (mut runner, barrier, each) = (Runner::new(plane, "evenkeel"), &barrier, &each);
            scope.spawn(move || {
                pin(cpu);
                for round in 0..rounds {
                    barrier.wait();
                    each(cpu, round, &mut runner);
                }
            });
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_that_two_cpus_open_at_once_is_one_flow() {
    const FLOWS: u16 = 2000;
    let mut plane = plane(Sizes::of(16_384, 8), BACKENDS);
    together(&mut plane, FLOWS, |_, client, runner| {
        for flags in [SYN, ACK, ACK, ACK] {
            let (action, _) = runner.run(&packet(client, Method::Nat, false, flags).bytes());
            assert_eq!(action, TRANSMIT);
        }
    });
    let mut sweeps = Sweeps::new(&mut plane);
    // A sweep looks at every sixteenth half that has shown no end.
    for _ in 0..17 {
        sweeps.sweep(Duration::ZERO);
    }
    let halves: Vec<_> = sweeps.sweeper.ipv4.live().map(|(_, half)| half).collect();
    let keys: BTreeSet<_> = halves.iter().map(evenkeel::dataplane::flow_table::key).collect();
    assert_eq!(keys.len(), 2 * usize::from(FLOWS), "every flow has its two halves");
    assert_eq!(halves.len(), keys.len(), "and none of them twice");
    let mut runner = Runner::new(&mut plane, "evenkeel");
    for client in 0..FLOWS {
        let frame = packet(client, Method::Nat, false, ACK).bytes();
        let (action, out) = runner.run(&frame);
        assert_eq!(action, TRANSMIT);
        let backend: Mac = out[..6].try_into().unwrap();
        let number = u32::from(backend[4]) << 8 | u32::from(backend[5]);
        let source = SocketAddr::new(address(10, number, false), PORT);
        let request = packet(client, Method::Nat, false, ACK);
        let back = Packet { source, destination: request.source, ..request }.bytes();
        let (action, out) = runner.run(&back);
        assert_eq!((action, &out[..6]), (TRANSMIT, &mac(2, client.into())[..]));
    }
}

/// One backend, so that the ports must last for all flows; more clients than there are ports.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_cpus_never_give_a_port_of_fullnat_to_two_flows() {
    for v6 in [false, true] {
        let mut plane = plane(Sizes::of(4096, 4096), 1);
        let given: Vec<std::sync::Mutex<Vec<(u16, SocketAddr)>>> =
            (0..CPUS).map(|_| Vec::new().into()).collect();
        together(&mut plane, 2 * PORTS, |cpu, round, runner| {
            let client = round * CPUS as u16 + cpu as u16;
            // Some stay half open, some enter the flow table.
            for flags in [SYN, ACK, ACK].iter().take(1 + usize::from(round % 3)) {
                let (action, out) = runner.run(&packet(client, Method::FullNat, v6, *flags).bytes());
                if action == TRANSMIT {
                    given[cpu].lock().unwrap().push((client, ports::source_of(out).unwrap()));
                }
            }
        });
        let pairs: BTreeSet<_> = given.into_iter().flat_map(|given| given.into_inner().unwrap()).collect();
        let sources: BTreeSet<_> = pairs.iter().map(|(_, source)| *source).collect();
        let clients: BTreeSet<_> = pairs.iter().map(|(client, _)| *client).collect();
        assert_eq!((sources.len(), clients.len()), (pairs.len(), pairs.len()), "one port for one flow");
        assert!(
            sources.len() > usize::from(PORTS) * 9 / 10 && sources.len() <= usize::from(PORTS),
            "{}",
            sources.len()
        );
        let counts = plane.reasons.read().unwrap();
        assert!(
            counts.iter().any(|(reason, count)| *reason == Reason::NoPort && *count > 0),
            "exhaustion is counted"
        );
    }
}
