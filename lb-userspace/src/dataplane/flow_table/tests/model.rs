//! The table beside a plain map.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::addr::{Addr, Address, V4};
use lb_common::extent;
use lb_common::flow::{CROWDED, UDP, WAYS};
use lb_common::hash::slot_hash;
use lb_common::service::Method;
use proptest::prelude::*;

use super::super::{Full, ways};
use super::{SEED, halves, table, words};
use crate::dataplane::flow_table::pool::Pool;
use crate::dataplane::flow_table::{FlowTable, key};

#[derive(Debug, Clone)]
enum Step {
    Insert(u32),
    Kill(u32),
    /// Everything that is dead.
    Free,
    Grow,
    Find(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flow = 0_u32..80;
    let step = prop_oneof![
        4 => flow.clone().prop_map(Step::Insert),
        2 => flow.clone().prop_map(Step::Kill),
        1 => Just(Step::Free),
        1 => Just(Step::Grow),
        2 => flow.prop_map(Step::Find),
    ];
    prop::collection::vec(step, 1..400)
}

fn like_a_map<A: Address>(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let levels = 2;
    let mut table: FlowTable<A> = table(1 << levels);
    let mut there: BTreeMap<u32, u32> = BTreeMap::new();
    let mut dead: BTreeSet<u32> = BTreeSet::new();
    let half = |number: u32| {
        let bits = if number.is_multiple_of(3) { UDP } else { 0 };
        halves::<A>(number, Method::Tunnel, bits, 0).0
    };
    for step in steps {
        match step {
            Step::Insert(flow) if there.contains_key(&flow) => {}
            Step::Insert(flow) => {
                let used: BTreeSet<u32> = there.values().chain(&dead).copied().collect();
                let hash = slot_hash(&key(&half(flow)), SEED);
                let free_in = |both: [u32; 2]| {
                    let taken = both.map(|set| ways(set, hash).filter(|way| used.contains(way)).count());
                    let first = usize::from(taken[0] >= CROWDED as usize && taken[1] < taken[0]);
                    let free = |at: usize| ways(both[at], hash).find(|way| !used.contains(way));
                    free(first).or_else(|| free(1 - first))
                };
                let part = extent::part_of(table.level());
                let spilled = |level| free_in(extent::sets_at(hash, 1, extent::beyond(level)));
                let expected = free_in(extent::sets(hash, 1, part))
                    .or_else(|| (table.level() + 1..=levels).rev().find_map(spilled));
                prop_assert_eq!(table.insert(&half(flow)), expected.ok_or(Full));
                if let Some(slot) = expected {
                    there.insert(flow, slot);
                }
            }
            Step::Kill(flow) => {
                if let Some(slot) = there.remove(&flow) {
                    prop_assert!(table.kill(slot));
                    prop_assert!(!table.kill(slot), "killed twice");
                    dead.insert(slot);
                }
            }
            Step::Free => {
                for slot in std::mem::take(&mut dead) {
                    table.free(slot);
                }
                for slot in there.values() {
                    table.free(*slot);
                }
            }
            Step::Grow => {
                table.grow(there.len() as u64, &Pool::default(), &mut || {});
                for (flow, slot) in &mut there {
                    *slot = table.find(&key(&half(*flow))).unwrap();
                    let places = |level| {
                        let hash = slot_hash(&key(&half(*flow)), SEED);
                        extent::sets(hash, 1, extent::part_of(level)).contains(&(*slot / WAYS))
                    };
                    prop_assert!(places(table.level()) || !table.is_settled());
                }
            }
            Step::Find(flow) => {
                let found = table.find(&key(&half(flow)));
                prop_assert_eq!(found, there.get(&flow).copied());
                let read = found.and_then(|slot| table.get(slot)).map(|slot| words(&slot));
                prop_assert_eq!(read, there.get(&flow).map(|_| words(&half(flow))));
            }
        }
    }
    let live: BTreeSet<u32> = table.live().map(|(slot, _)| slot).collect();
    prop_assert_eq!(live, there.values().copied().collect::<BTreeSet<_>>());
    let used: BTreeSet<u32> = table.used().map(|used| used.number).collect();
    prop_assert_eq!(used, there.values().chain(&dead).copied().collect::<BTreeSet<_>>());
    Ok(())
}

proptest! {
    #[test]
    fn the_table_is_a_map_until_both_sets_of_a_key_are_full_ipv4(steps in steps()) {
        like_a_map::<V4>(steps)?;
    }

    #[test]
    fn the_table_is_a_map_until_both_sets_of_a_key_are_full_ipv6(steps in steps()) {
        like_a_map::<Addr>(steps)?;
    }
}

#[test]
fn numbers_beyond_the_table_are_nobodys() {
    let table: FlowTable<V4> = table(2);
    assert_eq!(table.slots(), 32);
    for number in [32, u32::MAX] {
        assert!(table.get(number).is_none());
        assert!(!table.kill(number));
    }
}

#[test]
fn four_fifths_of_the_slots_are_taken_before_the_first_flow_finds_none() {
    fn filled<A: Address>() -> f64 {
        let mut table: FlowTable<A> = table(1 << 12);
        let slots = table.slots() as u32;
        table.grow(slots.into(), &Pool::default(), &mut || {});
        let full = (0..slots).find(|number| table.insert(&halves(*number, Method::Direct, 0, 0).0).is_err());
        f64::from(full.unwrap_or(slots)) / f64::from(slots)
    }
    let (v4, v6) = (filled::<V4>(), filled::<Addr>());
    assert!(v4 > 0.8 && v6 > 0.8, "{v4} {v6}");
}
