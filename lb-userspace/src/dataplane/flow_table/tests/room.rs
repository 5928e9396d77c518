//! A table that fills at once, as after a failover, when all flows of the other node come.

use std::sync::atomic::Ordering::Relaxed;

use lb_common::addr::V4;
use lb_common::extent::{self, LEVELS};
use lb_common::flow::{SEEN_FIN, SEEN_RST, Slot, WAYS};
use lb_common::hash::slot_hash;
use lb_common::service::Method;

use super::growth::{SETS, fill, is_finished_by_the_next_daemon, misses_no_flow};
use super::{SEED, TableFile, halves, table};
use crate::dataplane::flow_table::pool::Pool;
use crate::dataplane::flow_table::slot::Layout;
use crate::dataplane::flow_table::{FlowTable, key};

/// Flows of all methods that take up four fifths of the table.
fn crowd() -> u32 {
    let flows = (SETS * WAYS / 5 * 4) * 3 / 5;
    let entries = fill::<V4>(&table(SETS), flows);
    assert!((400..=SETS * WAYS / 5 * 4).contains(&(entries as u32)), "{entries}");
    flows
}

fn half(flow: u32) -> Slot<V4> {
    halves(flow, Method::Direct, 0, 0).0
}

#[test]
fn between_two_sweeps_there_is_room_for_all_flows_that_a_table_is_made_for() {
    for level in 0..LEVELS {
        let mut table: FlowTable<V4> = table(1 << 10);
        let slots = table.slots() as u32;
        let flows = slots / 5 * 4;
        table.grow(u64::from(slots >> (LEVELS - level)) / 2, &Pool::default(), &mut || {});
        assert_eq!(table.level(), level);
        for flow in 0..flows {
            let stored = table.insert(&half(flow));
            assert!(stored.is_ok(), "{flow} of {flows} at level {level}");
            assert_eq!(table.find(&key(&half(flow))), stored.ok());
        }
        table.grow(flows.into(), &Pool::default(), &mut || {});
        assert_eq!((table.level(), table.is_settled()), (LEVELS, true));
        assert!((0..flows).all(|flow| table.find(&key(&half(flow))).is_some()));
        assert_eq!(table.used().count(), flows as usize);
    }
}

#[test]
fn no_flow_is_missed_while_a_crowd_comes_to_its_place() {
    misses_no_flow(crowd(), 10, &[400]);
}

#[test]
fn a_crowd_that_was_half_way_to_its_place_loses_nobody() {
    is_finished_by_the_next_daemon(crowd());
}

/// What programs write into a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    ended: u32,
    place: u32,
}

/// A program that looked for a flow before the grace period may write into what it found until the end of that, and one that looks
/// for it writes into what it finds.
#[test]
fn what_programs_write_while_a_half_makes_room_is_kept() {
    const FLOWS: u32 = SETS * WAYS / 5 * 4;
    let ends = SEEN_FIN | SEEN_RST;
    let file = TableFile::<V4>::new(SETS);
    let (mut table, program) = (file.map(), file.map());
    for flow in 0..FLOWS {
        table.insert(&half(flow)).unwrap();
    }
    let find = |flow: usize| program.find(&key(&half(flow as u32))).unwrap();
    let read = |slot| {
        let Slot { state, place, .. } = program.get(slot).unwrap();
        Written { ended: state & ends, place }
    };
    let is_first = |flow: usize, slot: u32| {
        let hash = slot_hash(&key(&half(flow as u32)), SEED);
        extent::sets(hash, program.base, extent::part_of(LEVELS))[0] == slot / WAYS
    };
    let mut at: Vec<_> = (0..FLOWS as usize).map(find).collect();
    let mut expected: Vec<_> = at.iter().map(|slot| read(*slot)).collect();
    let (mut seed, mut late) = (1_u64, 0);
    let mut random = || {
        // Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    table.grow(FLOWS.into(), &Pool::default(), &mut || {
        for flow in 0..at.len() {
            let (was, now) = (at[flow], find(flow));
            at[flow] = now;
            assert_eq!(read(now), expected[flow], "flow {flow}");
            late += u32::from(is_first(flow, was) && !is_first(flow, now));
            let words = program.words(was).unwrap();
            match random() % 5 {
                bit @ (0 | 1) => {
                    let bit = [SEEN_FIN, SEEN_RST][bit as usize];
                    words[Layout::<V4>::STATE].fetch_or(bit, Relaxed);
                    expected[flow].ended |= bit;
                }
                2 => {
                    words[Layout::<V4>::STATE].fetch_and(!ends, Relaxed);
                    expected[flow].ended = 0;
                }
                3 => {
                    expected[flow].place = random();
                    words[Layout::<V4>::PLACE].store(expected[flow].place, Relaxed);
                }
                _ => {}
            }
        }
    });
    assert!(table.is_settled());
    assert!(late > 0, "nothing made room: this proves nothing");
    for (flow, expected) in expected.into_iter().enumerate() {
        assert_eq!(read(find(flow)), expected, "flow {flow}");
    }
    assert_eq!(table.used().count(), FLOWS as usize);
}
