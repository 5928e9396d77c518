//! A table that grows: every flow is found at any time, and in the end once, where it belongs.

use std::cell::Cell;
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use lb_common::addr::{Addr, Address, V4};
use lb_common::extent::{self, LEVELS};
use lb_common::flow::{REPLY, SEEN_FIN, SEEN_RST, Slot, WAYS, home, place};
use lb_common::service::Method;

use super::hammer::{Running, grace};
use super::{TableFile, halves, memory_file, pool, put, table, words};
use crate::dataplane::flow_table::hops::Hops;
use crate::dataplane::flow_table::pairs::Other;
use crate::dataplane::flow_table::pool::Pool;
use crate::dataplane::flow_table::slot::Layout;
use crate::dataplane::flow_table::{FlowTable, key};
use crate::dataplane::sweep::{Now, Orders, Sweeper};

/// A first part of 64 slots.
pub(super) const SETS: u32 = 4 << LEVELS;
const METHODS: [Method; 3] = [Method::Direct, Method::Nat, Method::FullNat];

fn method(flow: u32) -> Method {
    METHODS[flow as usize % METHODS.len()]
}

pub(super) fn fill<A: Address>(table: &FlowTable<A>, flows: u32) -> u64 {
    let stored = (0..flows).map(|flow| put(table, flow, method(flow), (0, 0), (7, 7)));
    stored.map(|(_, reply)| 1 + u64::from(reply.is_some())).sum()
}

/// Every flow is there once, whole, and nothing else is.
pub(super) fn assert_whole<A: Address>(table: &FlowTable<A>, flows: u32) {
    let mut halves_there = 0;
    for flow in 0..flows {
        let (forward, _) = halves::<A>(flow, method(flow), 0, 0);
        let at = table.find(&key(&forward)).unwrap_or_else(|| panic!("flow {flow} is lost"));
        let (forward, reply) = halves::<A>(flow, method(flow), 0, at);
        assert_eq!(words(&table.get(at).unwrap()), words(&Slot { last_seen: 7, ..forward }));
        halves_there += 1;
        if let Some(reply) = reply {
            let Other::There { half, number } = table.other_half(at, &forward, &pool::<A>()) else {
                panic!("the reply half of flow {flow} is lost");
            };
            assert_eq!(words(&half), words(&Slot { last_seen: 7, ..reply }));
            assert!(matches!(
                table.other_half(number, &half, &pool::<A>()),
                Other::There { number, .. } if number == at
            ));
            halves_there += 1;
        }
    }
    assert_eq!(table.live().count(), halves_there, "some are there twice");
}

fn grows<A: Address>() {
    let mut table: FlowTable<A> = table(SETS);
    let entries = fill(&table, 150);
    let level = table.level();
    assert!(level == 0 && !table.is_settled(), "five times what the first part holds");
    assert_whole(&table, 150);

    let moved = table.grow(entries, &pool::<A>(), &mut || {});
    assert!(moved > 100);
    assert_eq!(table.level(), 3);
    assert!(table.is_settled());
    assert_whole(&table, 150);
    assert_eq!(table.used().count() as u64, entries, "what was moved is free");
    assert_eq!(table.grow(entries, &pool::<A>(), &mut || panic!("there is nothing to wait for")), 0);
}

#[test]
fn what_a_burst_stored_beyond_the_part_is_found_and_comes_to_its_place_ipv4() {
    grows::<V4>();
}

#[test]
fn what_a_burst_stored_beyond_the_part_is_found_and_comes_to_its_place_ipv6() {
    grows::<Addr>();
}

#[test]
fn a_table_doubles_when_seven_tenths_of_the_part_are_in_use() {
    let mut table: FlowTable<V4> = table(SETS);
    for (entries, level) in [(0, 0), (44, 0), (45, 1), (0, 1), (358, 3), (359, 4), (100_000, 4)] {
        table.grow(entries, &Pool::default(), &mut || {});
        assert_eq!(table.level(), level, "{entries} entries");
        assert!(table.is_settled());
    }
}

/// Programs and the kernel in threads: in a table that grows they miss no flow, and what a reply half of `fullnat` names is its
/// flow's forward half.
#[test]
fn no_flow_is_missed_while_the_table_grows() {
    misses_no_flow(40, 50, &[48, 96, 192, 384]);
}

/// The table grows to each of these numbers of entries, and is the whole one then.
pub(super) fn misses_no_flow(flows: u32, rounds: u32, grows: &[u64]) {
    for round in 0..rounds {
        let file = TableFile::<V4>::new(SETS);
        let mut table = file.map();
        fill(&table, flows);
        let stop = AtomicBool::new(false);
        let running: Running = Arc::new((0..2).map(|_| AtomicU64::new(0)).collect());
        thread::scope(|scope| {
            let readers = [0, 1].map(|cpu: usize| {
                let (table, stop, running) = (file.map(), &stop, Arc::clone(&running));
                scope.spawn(move || {
                    while !stop.load(Relaxed) {
                        for flow in 0..flows {
                            let _run = Run::begin(&running[cpu]);
                            let (forward, _) = halves::<V4>(flow, method(flow), 0, 0);
                            let at = table.find(&key(&forward)).expect("the flow is there");
                            let (_, reply) = halves::<V4>(flow, method(flow), 0, at);
                            let Some(reply) = reply else { continue };
                            let back = table.find(&key(&reply)).expect("its reply half is there");
                            let half = table.get(back);
                            if let (Method::FullNat, Some(half)) = (method(flow), half) {
                                let named = table.get(half.other[0]);
                                assert!(named.is_some_and(|named| key(&named) == key(&forward)));
                            }
                        }
                    }
                })
            });
            for entries in grows {
                table.grow(*entries, &pool::<V4>(), &mut || grace(&running));
            }
            stop.store(true, Relaxed);
            for reader in readers {
                reader.join().unwrap_or_else(|_| panic!("round {round}"));
            }
        });
        assert_eq!((table.level(), table.is_settled()), (LEVELS, true));
        assert_whole(&table, flows);
    }
}

/// While a program runs.
struct Run<'r>(&'r AtomicU64);

impl<'r> Run<'r> {
    fn begin(running: &'r AtomicU64) -> Self {
        running.fetch_add(1, SeqCst);
        Self(running)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A flow that has to move when the table grows, and what happens in each of the four grace periods.
fn while_it_moves(happens: impl Fn(u32, &FlowTable<V4>, u32)) -> (FlowTable<V4>, u32) {
    let file = TableFile::<V4>::new(SETS);
    let (mut table, other) = (file.map(), file.map());
    let flow = (0..)
        .find(|flow| {
            let (half, _) = halves::<V4>(*flow, Method::Direct, 0, 0);
            let hash = lb_common::hash::slot_hash(&key(&half), super::SEED);
            let places = |level| extent::sets(hash, table.base, extent::part_of(level));
            !places(1).contains(&places(0)[0])
        })
        .unwrap();
    let (at, _) = put(&table, flow, Method::Direct, (0, 0), (7, 7));
    let graces = Cell::new(0);
    table.grow(50, &Pool::default(), &mut || {
        graces.set(graces.get() + 1);
        happens(graces.get(), &other, at);
    });
    (table, flow)
}

fn half(table: &FlowTable<V4>, flow: u32) -> Option<Slot<V4>> {
    let (half, _) = halves::<V4>(flow, Method::Direct, 0, 0);
    table.find(&key(&half)).and_then(|at| table.get(at))
}

fn state(table: &FlowTable<V4>, flow: u32) -> Option<u32> {
    half(table, flow).map(|half| half.state)
}

#[test]
fn what_a_program_writes_into_the_old_half_while_it_moves_is_kept() {
    let (table, flow) = while_it_moves(|grace, table, at| {
        if grace == 2 {
            table.words(at).unwrap()[Layout::<V4>::STATE].fetch_or(SEEN_FIN | SEEN_RST, Relaxed);
            table.words(at).unwrap()[Layout::<V4>::PLACE].store(place(3, 99), Relaxed);
        }
    });
    assert_eq!(half(&table, flow).unwrap().place, place(3, 99));
    assert_eq!(state(&table, flow).unwrap() & (SEEN_FIN | SEEN_RST | REPLY), SEEN_FIN | SEEN_RST);
    let (table, flow) = while_it_moves(|_, _, _| {});
    assert_eq!(state(&table, flow).unwrap() & (SEEN_FIN | SEEN_RST), 0);
}

#[test]
fn a_flow_that_a_program_removes_while_it_moves_is_gone() {
    for when in 1..=3 {
        // One that had the old half in hand when it was copied, and one that finds the flow.
        let by_number = |grace, table: &FlowTable<V4>, at| {
            if grace == when {
                table.kill(at);
            }
        };
        let by_key = |grace, table: &FlowTable<V4>, at| {
            if grace == when {
                let half = table.get(at).or_else(|| table.live().next().map(|(_, half)| half)).unwrap();
                assert!(table.kill(table.find(&key(&half)).unwrap()));
            }
        };
        let (table, flow) = while_it_moves(by_key);
        assert_eq!(state(&table, flow), None, "removed in grace period {when}");
        if when < 3 {
            let (table, flow) = while_it_moves(by_number);
            assert_eq!(state(&table, flow), None, "removed by number in grace period {when}");
        }
    }
}

#[test]
fn what_spills_while_the_table_grows_is_looked_for_until_it_is_in_its_place() {
    let file = TableFile::<V4>::new(SETS);
    let (mut table, program) = (file.map(), file.map());
    let graces = Cell::new(0);
    put(&table, 0, Method::Direct, (0, 0), (7, 7));
    // More than the part has room for at its new level, after all that was misplaced was found.
    table.grow(50, &pool::<V4>(), &mut || {
        graces.set(graces.get() + 1);
        if graces.get() == 2 {
            for flow in 1000..1200 {
                put(&program, flow, Method::Direct, (0, 0), (7, 7));
            }
        }
    });
    assert!(!table.is_settled());
    let there = |table: &FlowTable<V4>| {
        (1000..1200).all(|flow| table.find(&key(&halves::<V4>(flow, Method::Direct, 0, 0).0)).is_some())
    };
    assert!(there(&table));
    table.grow(201, &pool::<V4>(), &mut || {});
    assert!(there(&table) && table.is_settled());
}

/// The daemon is killed in one grace period after the other, and the next one does not know the pool at first.
#[test]
fn growth_that_ended_half_way_is_finished_by_the_next_daemon_and_loses_nothing() {
    is_finished_by_the_next_daemon(40);
}

pub(super) fn is_finished_by_the_next_daemon(flows: u32) {
    let hops = || memory_file(lb_common::limits::HOPS as usize * size_of::<lb_common::backend::Hop>());
    for dies in 1.. {
        let file = TableFile::<V4>::new(SETS);
        let mut table = file.map();
        let (mut stored, mut graces) = (0, 0);
        for flow in 0..flows {
            stored += 1 + u64::from(put(&table, flow, method(flow), (0, 0), (7, 7)).1.is_some());
        }
        let died = catch_unwind(AssertUnwindSafe(|| {
            table.grow(stored, &pool::<V4>(), &mut || {
                graces += 1;
                assert!(graces != dies, "killed");
            });
        }));
        drop(table);

        let hops = Hops::map(hops().as_fd()).unwrap();
        let mut sweeper = Sweeper::new(file.map(), self::table(16), hops);
        for pool in [Pool::default(), pool::<V4>()] {
            let orders = Orders { pool: Arc::new(pool), ..Orders::default() };
            // As often as it takes for every half to have had its turn.
            for _ in 0..20 {
                let ticks = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
                let census = sweeper.sweep(&orders, Now { jiffies: 8, ticks: &ticks }, || {});
                assert_eq!((census.expired, census.repaired, census.orphaned), (0, 0, 0), "{died:?}");
            }
        }
        assert!(sweeper.ipv4.is_settled(), "{died:?} {graces}");
        assert_whole(&sweeper.ipv4, flows);
        assert!(died.is_ok() || graces == dies, "it panicked by itself");
        if died.is_ok() {
            assert!(graces > 3, "it died in each of them");
            return;
        }
    }
}

#[test]
fn a_fullnat_flow_whose_backend_nobody_knows_stays_where_its_reply_half_says() {
    let mut table: FlowTable<V4> = table(SETS);
    for flow in 0..20 {
        put(&table, flow, Method::FullNat, (0, 0), (7, 7));
    }
    table.grow(60, &Pool::default(), &mut || {});
    assert!(!table.is_settled(), "half of them are where they were");
    for flow in 0..20 {
        let at = table.find(&key(&halves::<V4>(flow, Method::FullNat, 0, 0).0)).unwrap();
        let reply = halves::<V4>(flow, Method::FullNat, 0, at).1.unwrap();
        let half = table.find(&key(&reply)).and_then(|reply| table.get(reply)).unwrap();
        assert_eq!(half.other[0], at);
    }
    table.grow(60, &pool::<V4>(), &mut || {});
    assert!(table.is_settled());
}

#[test]
fn a_larger_part_has_nearly_all_halves_where_they_are_looked_for_first() {
    let mut table: FlowTable<V4> = table(64 << LEVELS);
    let flows = table.slots_in_use() * 7 / 10;
    for flow in 0..flows {
        put(&table, flow, Method::Direct, (0, 0), (7, 7));
    }
    let first = |table: &FlowTable<V4>| {
        let at_home = |(number, half): &(u32, Slot<V4>)| {
            let hash = lb_common::hash::slot_hash(&key(half), super::SEED);
            let [set, _] = extent::sets(hash, table.base, extent::part_of(table.level()));
            // The first two ways are in one cache line.
            number / 2 == (set * WAYS + home(hash)) / 2
        };
        f64::from(table.live().filter(at_home).count() as u32) / f64::from(flows)
    };
    let before = first(&table);
    table.grow(u64::from(flows) + 1, &pool::<V4>(), &mut || {});
    assert_eq!(table.level(), 1);
    let after = first(&table);
    assert!(before < 0.8 && after > 0.9, "{before} before, {after} after");
}

/// Somebody removed its pin.
#[test]
fn flows_of_a_table_whose_word_is_gone_are_found_wherever_they_are() {
    for (entries, flows) in [(0, 20), (0, 150), (100, 20), (400, 20)] {
        let mut file = TableFile::<V4>::new(SETS);
        let mut table = file.map();
        table.grow(entries, &pool::<V4>(), &mut || {});
        fill(&table, flows);
        file.extents = memory_file(16);
        let mut table = file.map();
        table.lose_extent();
        assert_whole(&table, flows);
        table.grow(0, &pool::<V4>(), &mut || {});
        assert!(table.is_settled());
        assert_whole(&table, flows);
    }
}
