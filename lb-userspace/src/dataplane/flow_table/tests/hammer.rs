//! Threads as CPUs that claim, publish, look up and kill at once, while another thread frees: nobody ever reads half a flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use lb_common::addr::{Addr, Address, V4};
use lb_common::flow::{Slot, live, place};
use lb_common::hash::slot_hash;
use lb_common::service::Method;

use super::{SEED, TableFile, halves};
use crate::dataplane::flow_table::{FlowTable, is_dead, key};

const CPUS: usize = 4;
const SETS: u32 = 4;
const FLOWS: u32 = 64;

/// A thread as a CPU: odd while a program runs on it.
pub(super) type Running = Arc<Vec<AtomicU64>>;

/// What a slot says follows from its key: one made of two flows is told.
fn signed<A: Address>(flow: u32) -> Slot<A> {
    let (forward, _) = halves::<A>(flow, Method::Tunnel, 0, 0);
    let sum = slot_hash(&key(&forward), !SEED);
    let mut other = forward.other;
    other.as_mut().fill(sum as u32);
    let state = live(Method::TUNNEL, 0, (sum >> 48) as u16);
    Slot { place: place((sum >> 32) as u32, sum as u32), last_seen: sum as u32, state, other, ..forward }
}

fn is_whole<A: Address>(slot: &Slot<A>, flow: u32) -> bool {
    super::words(slot) == super::words(&signed::<A>(flow))
}

/// Waits until every program that runs now has ended.
pub(super) fn grace(running: &Running) {
    for cpu in running.iter() {
        let seen = cpu.load(SeqCst);
        while seen % 2 == 1 && cpu.load(SeqCst) == seen {
            thread::yield_now();
        }
    }
}

/// One run of a program: looks for a flow; if it is there, checks it twice and kills it at times; else inserts it.
fn program<A: Address>(table: &FlowTable<A>, random: u64) -> bool {
    let flow = (random >> 32) as u32 % FLOWS;
    let half = signed::<A>(flow);
    match table.find(&key(&half)) {
        Some(slot) => {
            for _ in 0..2 {
                // Another program may kill it meanwhile. What it was is still there.
                if table.get(slot).is_some_and(|read| !is_whole(&read, flow)) {
                    return false;
                }
                thread::yield_now();
            }
            if random.is_multiple_of(4) {
                table.kill(slot);
            }
        }
        None => drop(table.insert(&half)),
    }
    true
}

fn hammer<A: Address>() {
    let file = TableFile::<A>::new(SETS);
    let running: Running = Arc::new((0..CPUS).map(|_| AtomicU64::new(0)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let cpus: Vec<_> = (0..CPUS)
        .map(|cpu| {
            let table = file.map();
            let (running, stop) = (Arc::clone(&running), Arc::clone(&stop));
            thread::spawn(move || {
                let (mut random, mut runs) = (cpu as u64 + 1, 0_u64);
                while !stop.load(SeqCst) {
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                    running[cpu].fetch_add(1, SeqCst);
                    let whole = program(&table, random ^ random >> 29);
                    running[cpu].fetch_add(1, SeqCst);
                    assert!(whole, "a slot was torn");
                    runs += 1;
                }
                runs
            })
        })
        .collect();
    let mut table = file.map();
    let (started, mut freed) = (Instant::now(), 0_u64);
    while started.elapsed() < Duration::from_secs(1) && cpus.iter().all(|cpu| !cpu.is_finished()) {
        let dead: Vec<u32> =
            table.used().filter(|used| is_dead(used.state)).map(|used| used.number).collect();
        grace(&running);
        for slot in &dead {
            table.free(*slot);
        }
        freed += dead.len() as u64;
        for (_, slot) in table.live() {
            let flow = (0..FLOWS).find(|flow| key(&signed::<A>(*flow)) == key(&slot));
            assert!(flow.is_some_and(|flow| is_whole(&slot, flow)), "a slot was torn");
        }
    }
    stop.store(true, SeqCst);
    let runs: u64 = cpus.into_iter().map(|cpu| cpu.join().unwrap()).sum();
    assert!(runs > 0 && freed > 0, "nothing happened: {runs} runs, {freed} freed");
}

#[test]
fn nobody_reads_half_a_flow_ipv4() {
    hammer::<V4>();
}

#[test]
fn nobody_reads_half_a_flow_ipv6() {
    hammer::<Addr>();
}
