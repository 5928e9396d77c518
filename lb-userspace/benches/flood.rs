//! What a flood of spoofed packets costs, and what it does to packets of established flows: see BENCHMARKS.md.
//! `cargo xtask bench flood` runs this as root.

#![expect(clippy::unwrap_used, reason = "what cannot go on has failed")]

#[path = "../tests/proof/runner.rs"]
mod runner;
#[path = "../tests/proof/siege.rs"]
mod siege;

use std::env;

use aya::Ebpf;
use aya::programs::Xdp;
use evenkeel::dataplane::object;
use lb_common::reason::Reason;
use runner::Runner;
use siege::{ACK, Cost, METHODS, SYN, Siege};

/// Of each method.
const FLOWS: u32 = 25_000;
const SYNS: u32 = 10_000_000;
const ACKS: u32 = 2_000_000;
/// Packets of the flood for one of an established flow.
const MIX: u32 = 8;

fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        return;
    }
    let nothing = idle(1 << 20);
    let mut siege = Siege::new(FLOWS);
    let mut alone = Cost::default();
    for number in 0..1 << 20 {
        siege.hit(number, &mut alone);
    }
    let opened = siege.counted(Reason::Opening);
    let (syns, during_syns) = flood(&mut siege, SYN, 0..SYNS);
    let (acks, during_acks) = flood(&mut siege, ACK, SYNS..SYNS + ACKS);
    assert_eq!(siege.counted(Reason::Opening) - opened, u64::from(SYNS + ACKS), "each leaves no flow");
    siege.hold();
    let rows = [
        ("established", alone),
        ("syn_to_nat", syns[0]),
        ("syn_to_tunnel", syns[1]),
        ("established_during_syns", during_syns),
        ("ack_to_nat", acks[0]),
        ("ack_to_tunnel", acks[1]),
        ("established_during_acks", during_acks),
    ]
    .map(|(what, cost)| (what, cost.packets, mean(cost) - mean(nothing)));
    let (flows, kept) = (FLOWS * METHODS.len() as u32, siege.halves());
    if env::args().any(|argument| argument == "--json") {
        let rows: serde_json::Map<_, _> = rows
            .iter()
            .map(|(what, packets, ns)| {
                ((*what).to_owned(), serde_json::json!({"packets": packets, "ns": ns}))
            })
            .collect();
        println!("{}", serde_json::json!({"flows": flows, "flows_lost": 0, "halves": kept, "costs": rows}));
        return;
    }
    println!(
        "{flows} established flows, half of them by `nat` and half by `tunnel`; none lost, {kept} halves before and after"
    );
    println!("{:<28}{:>12}{:>20}{:>22}", "packet", "packets", "ns over nothing", "of one established");
    let (.., one) = rows[0];
    for (what, packets, ns) in rows {
        println!("{:<28}{packets:>12}{ns:>20.0}{:>22.2}", what.replace('_', " "), ns / one);
    }
}

/// What its packets cost by method, and what packets of established flows cost among them.
fn flood(siege: &mut Siege, flags: u8, sources: std::ops::Range<u32>) -> ([Cost; METHODS.len()], Cost) {
    let (mut flood, mut established) = ([Cost::default(); METHODS.len()], Cost::default());
    for source in sources {
        siege.strike(source, flags, &mut flood[source as usize % METHODS.len()]);
        if source % MIX == 0 {
            siege.hit(source / MIX, &mut established);
        }
    }
    (flood, established)
}

/// What a program costs that does nothing.
fn idle(packets: u32) -> Cost {
    let mut ebpf = Ebpf::load(object::PASS).unwrap();
    let program: &mut Xdp = ebpf.program_mut("pass").unwrap().try_into().unwrap();
    program.load().unwrap();
    let mut runner = Runner::of(program);
    let mut cost = Cost::default();
    for _ in 0..packets {
        cost.add(runner.rounds(&[0; 60], 1).unwrap().1);
    }
    cost
}

fn mean(cost: Cost) -> f64 {
    cost.nanoseconds as f64 / cost.packets as f64
}
