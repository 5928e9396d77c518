//! Established flows while the table grows under them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use evenkeel::dataplane::Sizes;
use lb_common::reason::Reason;
use lb_common::service::Method;

use super::bed::{BACKENDS, CPUS, Ended, Flow, Sweeps, packet, pin, plane};
use crate::frames::{ACK, SYN};
use crate::fuzz::Random;
use crate::runner::Runner;

/// Of each method, and all of them in the first part of the table.
const FLOWS: u16 = 8;
/// A first part of 64 slots.
const SETS: u32 = 64;

/// So many flows come between two sweeps.
fn grows(v6: bool, come: u64) {
    let mut plane = plane(Sizes { sets4: SETS, sets6: SETS }, BACKENDS);
    let mut runner = Runner::new(&mut plane, "evenkeel");
    let (mut flows, mut random) = (Vec::new(), Random(1));
    for method in [Method::Nat, Method::Tunnel, Method::FullNat] {
        for client in 0..FLOWS {
            let flow = Flow::new(&mut runner, client + method as u16 * 1000, method, v6);
            // One of these is the client's.
            for _ in 0..20 {
                assert!(flow.acknowledge(&mut runner, &mut random));
            }
            flows.push(flow);
        }
    }
    let mut sweeps = Sweeps::new(&mut plane);
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut opened = 0;
    thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (mut runner, flows, sent, stop) = (Runner::new(&mut plane, "evenkeel"), &flows, &sent, &stop);
            scope.spawn(move || {
                let ended = Ended(stop);
                pin(cpu);
                let mut random = Random(cpu as u64 + 1);
                while !stop.load(Relaxed) {
                    let flow = &flows[random.below(flows.len())];
                    assert!(flow.acknowledge(&mut runner, &mut random), "a packet of a flow was dropped");
                    sent.fetch_add(1, Relaxed);
                }
                drop(ended);
            });
        }
        let ended = Ended(&stop);
        let wait_for_packets = || {
            let before = sent.load(Relaxed);
            while sent.load(Relaxed) < before + 10_000 && !stop.load(Relaxed) {
                thread::yield_now();
            }
        };
        wait_for_packets();
        for client in 10_000..11_000 {
            for flags in [SYN, ACK] {
                runner.run(&packet(client, Method::Tunnel, v6, flags).bytes());
            }
            opened += 1;
            if opened % come == 0 {
                sweeps.sweep(Duration::ZERO);
            }
            // Spilled flows too have the whole table in use.
            if opened >= come && sweeps.slots_in_use(v6) == SETS * 16 || stop.load(Relaxed) {
                break;
            }
        }
        // What has just moved is found where it is now, and nowhere else.
        wait_for_packets();
        drop(ended);
    });
    assert_eq!(sweeps.slots_in_use(v6), SETS * 16, "{opened} flows");
    let counts = plane.reasons.read().unwrap();
    let count = |wanted| counts.iter().find(|(reason, _)| *reason == wanted).map_or(0, |(_, count)| *count);
    assert_eq!(count(Reason::NewFlow), flows.len() as u64 + opened, "no flow enters the table again");
    assert_eq!((count(Reason::NoWayBack), count(Reason::Internal)), (0, 0));
    assert!(count(Reason::Flow) > 1000 && count(Reason::Reply) > 1000);
    println!("{} packets while {opened} flows came", sent.into_inner());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_established_flow_loses_a_packet_while_the_table_grows_in_ipv4() {
    grows(false, 10);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_established_flow_loses_a_packet_while_the_table_grows_in_ipv6() {
    grows(true, 10);
}

/// As after a failover: with what is there they take up four fifths of the table.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_established_flow_loses_a_packet_while_as_many_come_at_once_as_the_table_is_made_for() {
    grows(false, 779);
    grows(true, 779);
}

/// The flow before is not found again, whichever of its copies was.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_port_that_is_used_anew_while_its_flow_moves_makes_a_flow_of_its_own() {
    for v6 in [false, true] {
        for when in 1..=4 {
            let mut plane = plane(Sizes { sets4: SETS, sets6: SETS }, BACKENDS);
            let mut runner = Runner::new(&mut plane, "evenkeel");
            let mut random = Random(1);
            let flows: Vec<_> =
                (0..20).map(|client| Flow::new(&mut runner, client, Method::Nat, v6)).collect();
            for flow in &flows {
                for _ in 0..20 {
                    assert!(flow.acknowledge(&mut runner, &mut random));
                }
            }
            for client in 10_000..10_020 {
                for flags in [SYN, ACK] {
                    runner.run(&packet(client, Method::Tunnel, v6, flags).bytes());
                }
            }
            let mut sweeps = Sweeps::new(&mut plane);
            let mut graces = 0;
            sweeps.sweep_while(Duration::ZERO, || {
                graces += 1;
                if graces == when {
                    flows.iter().for_each(|flow| flow.begin_anew(&mut runner));
                }
            });
            assert!(graces >= when && sweeps.slots_in_use(v6) > SETS, "{graces} graces");
            let counts = plane.reasons.read().unwrap();
            let new = counts.iter().find(|(reason, _)| *reason == Reason::NewFlow).map(|(_, count)| *count);
            assert_eq!(new, Some(60), "in grace period {when}");
        }
    }
}
