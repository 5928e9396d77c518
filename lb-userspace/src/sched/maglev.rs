//! Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
//! 3.4), with weights.
//!
//! Every backend has a permutation of the entries, drawn from its identity alone, and backends take turns to claim the
//! next free entry of theirs. The table is a function of the set of identities and weights: the order of the
//! configuration, the numbers that backends have on this node, and what was there before do not enter.

#![deny(clippy::disallowed_methods)]

use lb_common::limits::TABLE_ENTRIES;

/// A backend that takes new flows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The same on both nodes of a pair.
    pub identity: String,
    /// Number of the backend on this node, what the table will hold.
    pub number: u32,
    /// More than 0, or it gets no entry.
    pub weight: u16,
}

/// The table, or `None` if nobody takes new flows. Runs in the order of entries times the logarithm of that.
#[must_use]
pub fn table(candidates: &[Candidate]) -> Option<Vec<u32>> {
    let mut turns: Vec<Turn<'_>> = candidates.iter().filter(|c| c.weight > 0).map(Turn::new).collect();
    turns.sort_by(|a, b| a.candidate.identity.cmp(&b.candidate.identity));
    let heaviest = u64::from(turns.iter().map(|turn| turn.candidate.weight).max()?);
    let mut entries = vec![0; TABLE_ENTRIES as usize];
    let mut taken = Taken::default();
    let mut free = TABLE_ENTRIES;
    // In a round the heaviest backend claims one entry, and another its weight's part of one, saved up.
    'rounds: loop {
        for turn in &mut turns {
            turn.credit += u64::from(turn.candidate.weight);
            if turn.credit < heaviest {
                continue;
            }
            turn.credit -= heaviest;
            entries[turn.claim(&mut taken)] = turn.candidate.number;
            free -= 1;
            if free == 0 {
                break 'rounds;
            }
        }
    }
    Some(entries)
}

/// Which entries are taken. Near the end most of the time goes into finding a free one, and a bit an entry stays in the
/// nearest cache, where the table itself would not.
struct Taken([u64; TABLE_ENTRIES.div_ceil(64) as usize]);

impl Default for Taken {
    fn default() -> Self {
        Self([0; TABLE_ENTRIES.div_ceil(64) as usize])
    }
}

impl Taken {
    /// Whether the entry was free until now.
    fn take(&mut self, entry: u32) -> bool {
        let word = &mut self.0[entry as usize / 64];
        let bit = 1 << (entry % 64);
        let free = *word & bit == 0;
        *word |= bit;
        free
    }
}

struct Turn<'a> {
    candidate: &'a Candidate,
    credit: u64,
    position: u32,
    skip: u32,
}

impl<'a> Turn<'a> {
    fn new(candidate: &'a Candidate) -> Self {
        let hash = hash(candidate.identity.as_bytes());
        Self {
            candidate,
            credit: 0,
            position: (hash >> 32) as u32 % TABLE_ENTRIES,
            // The number of entries is prime, so any skip but 0 visits them all.
            skip: (hash as u32) % (TABLE_ENTRIES - 1) + 1,
        }
    }

    /// The caller knows that an entry is free.
    fn claim(&mut self, taken: &mut Taken) -> usize {
        while !taken.take(self.position) {
            // Both are less than the number of entries: one subtraction is the remainder.
            self.position += self.skip;
            if self.position >= TABLE_ENTRIES {
                self.position -= TABLE_ENTRIES;
            }
        }
        self.position as usize
    }
}

/// FNV-1a with the finalizer of MurmurHash3: identities differ in a few bytes only. Both nodes must agree on it.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn pool(weights: &[u16]) -> Vec<Candidate> {
        (0..)
            .zip(weights)
            .map(|(number, weight)| Candidate {
                identity: format!("10.0.0.{number}:80"),
                number,
                weight: *weight,
            })
            .collect()
    }

    fn shares(table: &[u32]) -> BTreeMap<u32, u32> {
        table.iter().fold(BTreeMap::new(), |mut shares, number| {
            *shares.entry(*number).or_default() += 1;
            shares
        })
    }

    #[test]
    fn nobody_to_take_flows_is_no_table() {
        assert_eq!(table(&[]), None);
        assert_eq!(table(&pool(&[0, 0])), None);
    }

    #[test]
    fn a_hundred_backends_get_within_one_percent_of_their_weights() {
        let weights: Vec<u16> = (0..100).map(|n| if n % 3 == 0 { 20 } else { 10 }).collect();
        let pool = pool(&weights);
        let total: u32 = weights.iter().map(|w| u32::from(*w)).sum();
        for (number, entries) in shares(&table(&pool).unwrap()) {
            let expected = f64::from(TABLE_ENTRIES) * f64::from(weights[number as usize]) / f64::from(total);
            assert!(
                (f64::from(entries) - expected).abs() < expected / 100.0,
                "{number}: {entries}, {expected}"
            );
        }
    }

    #[test]
    fn a_backend_lost_moves_few_of_the_other_flows() {
        let before = pool(&[1; 50]);
        let after: Vec<_> = before.iter().filter(|c| c.number != 17).cloned().collect();
        let (before, after) = (table(&before).unwrap(), table(&after).unwrap());
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != 17 && b != a).count();
        // The paper's figure 12: less than 2 % with a table a thousand times the number of backends.
        assert!(moved < TABLE_ENTRIES as usize / 50, "{moved}");
    }

    #[test]
    fn a_weight_of_one_beside_the_heaviest_still_gets_its_part() {
        let shares = shares(&table(&pool(&[1, 65_535])).unwrap());
        assert_eq!(shares[&0], 1);
    }

    /// As the paper has it, with the remainder and with the table itself to tell what is free.
    fn as_written(candidates: &[Candidate]) -> Option<Vec<u32>> {
        const FREE: u32 = u32::MAX;
        let mut turns: Vec<Turn<'_>> = candidates.iter().filter(|c| c.weight > 0).map(Turn::new).collect();
        turns.sort_by(|a, b| a.candidate.identity.cmp(&b.candidate.identity));
        let heaviest = u64::from(turns.iter().map(|turn| turn.candidate.weight).max()?);
        let mut entries = vec![FREE; TABLE_ENTRIES as usize];
        let mut free = TABLE_ENTRIES;
        while free > 0 {
            for turn in &mut turns {
                turn.credit += u64::from(turn.candidate.weight);
                if turn.credit < heaviest || free == 0 {
                    continue;
                }
                turn.credit -= heaviest;
                while entries[turn.position as usize] != FREE {
                    turn.position = (turn.position + turn.skip) % TABLE_ENTRIES;
                }
                entries[turn.position as usize] = turn.candidate.number;
                free -= 1;
            }
        }
        Some(entries)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_table_is_the_papers(weights in prop::collection::vec(0_u16..50, 1..12)) {
            let pool = pool(&weights);
            prop_assert_eq!(table(&pool), as_written(&pool));
        }

        #[test]
        fn neither_order_nor_numbers_change_who_gets_what(
            weights in prop::collection::vec(0_u16..50, 1..12),
            seed: u64,
        ) {
            let pool = pool(&weights);
            let mut other = pool.clone();
            other.sort_by_key(|c| hash(format!("{seed}{}", c.identity).as_bytes()));
            for candidate in &mut other {
                candidate.number += 1000;
            }
            let renumbered = table(&other).map(|t| t.iter().map(|n| n - 1000).collect::<Vec<_>>());
            prop_assert_eq!(table(&pool), renumbered);
        }
    }
}
