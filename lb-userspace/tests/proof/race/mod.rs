//! Several CPUs, and the sweep, at the same few sets of flows at once.
//!
//! Every client has one backend by the table of its service, which does not change, and a router of its own. So a packet
//! that goes elsewhere went by a slot that was not its flow's.

mod bed;
mod growth;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel::dataplane::{DataPlane, Sizes};
use lb_common::reason::Reason;
use lb_common::service::Method;

use self::bed::{BACKENDS, CPUS, Ended, Flow, PORT, PORTS, Sweeps, address, mac, packet, pin, plane};
use crate::frames::{ACK, Mac, Packet, SYN};
use crate::fuzz::Random;
use crate::ports;
use crate::runner::{Runner, TRANSMIT};

/// More halves than the two sets of the table have slots.
const CLIENTS: u16 = 24;
const LASTS: Duration = Duration::from_secs(6);

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
