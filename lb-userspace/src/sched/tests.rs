//! What holds for every kind of table.

use std::collections::BTreeMap;

use lb_common::limits::{BACKENDS, TABLE_ENTRIES};
use proptest::prelude::*;

use super::*;

const KINDS: [Kind; 4] = [Kind::Consistent, Kind::Turns, Kind::WeightedTurns, Kind::First];

/// Candidates with numbers from 0 on.
pub(super) fn pool(weights: &[u16]) -> Vec<Candidate> {
    let candidate = |(number, weight): (u32, &u16)| Candidate {
        identity: format!("10.0.{}.{}:80", number / 256, number % 256),
        number,
        weight: *weight,
    };
    (0..).zip(weights).map(candidate).collect()
}

/// Entries by number.
pub(super) fn counts(table: &[u32]) -> BTreeMap<u32, u32> {
    table.iter().fold(BTreeMap::new(), |mut counts, number| {
        *counts.entry(*number).or_default() += 1;
        counts
    })
}

#[test]
fn nobody_to_take_flows_is_no_table() {
    for kind in KINDS {
        assert_eq!(table(kind, &[]), None, "{kind:?}");
        assert_eq!(table(kind, &pool(&[0, 0])), None, "{kind:?}");
    }
}

#[test]
fn round_robin_ignores_weights_apart_from_zero() {
    let table = table(Kind::Turns, &pool(&[7, 0, u16::MAX, 1])).unwrap();
    assert_eq!(table[..6], [0, 2, 3, 0, 2, 3]);
}

#[test]
fn failover_is_the_first_given_that_takes_flows() {
    let mut pool = pool(&[0, 1, u16::MAX]);
    assert_eq!(counts(&table(Kind::First, &pool).unwrap()), BTreeMap::from([(1, TABLE_ENTRIES)]));
    pool.reverse();
    assert_eq!(counts(&table(Kind::First, &pool).unwrap()), BTreeMap::from([(2, TABLE_ENTRIES)]));
}

#[test]
fn more_candidates_than_there_may_be_get_a_table_all_the_same() {
    let pool = pool(&vec![u16::MAX; BACKENDS as usize + 1]);
    for kind in KINDS {
        assert_eq!(table(kind, &pool).unwrap().len(), TABLE_ENTRIES as usize, "{kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn neither_order_nor_numbers_change_who_gets_what(
        (weights, order) in prop::collection::vec(any::<u16>(), 1..60)
            .prop_flat_map(|weights| (Just(weights.clone()), Just((0..weights.len()).collect::<Vec<_>>()).prop_shuffle())),
    ) {
        let pool = pool(&weights);
        let other: Vec<_> = order
            .iter()
            .zip(1000..)
            .map(|(index, number)| Candidate { number, ..pool[*index].clone() })
            .collect();
        for kind in [Kind::Consistent, Kind::Turns, Kind::WeightedTurns] {
            let renumbered = table(kind, &other)
                .map(|table| table.iter().map(|n| order[(n - 1000) as usize] as u32).collect::<Vec<_>>());
            prop_assert_eq!(table(kind, &pool), renumbered, "{:?}", kind);
        }
    }

    #[test]
    fn a_weight_of_zero_gets_no_entry_and_any_other_gets_one(
        weights in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u16>()], 1..300),
    ) {
        let pool = pool(&weights);
        let eligible: Vec<u32> = pool.iter().filter(|c| c.weight > 0).map(|c| c.number).collect();
        prop_assume!(!eligible.is_empty());
        for kind in [Kind::Consistent, Kind::Turns, Kind::WeightedTurns] {
            let table = table(kind, &pool).unwrap();
            prop_assert_eq!(table.len(), TABLE_ENTRIES as usize);
            prop_assert_eq!(counts(&table).into_keys().collect::<Vec<_>>(), eligible.clone(), "{:?}", kind);
        }
    }
}
