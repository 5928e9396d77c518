//! Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
//! 3.4), with weights.
//!
//! Every backend has a permutation of the entries, drawn from its identity alone, and backends take turns to claim the
//! next free entry of theirs. The paper leaves weights out; here they decide who has how many turns and when, as in
//! [`sequence`](super::sequence). The table is a function of the set of identities and weights: the order of the
//! configuration, the numbers that backends have on this node, and what was there before do not enter.

#![deny(clippy::disallowed_methods)]

use lb_common::limits::TABLE_ENTRIES;

use super::in_order;
use super::sequence::turns;

pub use super::Candidate;

/// The table, or `None` if nobody takes new flows. Runs in the order of entries times the logarithm of that.
///
/// Everybody has an entry at least. Beyond that, of up to 100 candidates each has its part by weight within 1 %, or within
/// two entries where that is more.
#[must_use]
pub fn table(candidates: &[Candidate]) -> Option<Vec<u32>> {
    let members = in_order(candidates);
    let weights: Vec<u16> = members.iter().map(|member| member.weight).collect();
    let mut permutations: Vec<_> = members.iter().map(|member| Permutation::new(&member.identity)).collect();
    let mut entries = vec![0; TABLE_ENTRIES as usize];
    let mut taken = Taken::default();
    for turn in turns(&weights) {
        entries[permutations[turn].claim(&mut taken)] = members[turn].number;
    }
    (!members.is_empty()).then_some(entries)
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

struct Permutation {
    position: u32,
    skip: u32,
}

impl Permutation {
    fn new(identity: &str) -> Self {
        let hash = hash(identity.as_bytes());
        Self {
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
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::super::tests::{counts, pool};
    use super::*;

    fn weights(sizes: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u16>> {
        let weight = prop_oneof![1_u16..=10, 1_u16..=u16::MAX, (0_u32..16).prop_map(|bits| 1 << bits)];
        prop::collection::vec(weight, sizes)
    }

    /// Entries that change hands between a pool and the same pool without one candidate, though that one had no part in
    /// it: the same entries whether it leaves or comes. As a part of the entries of the others.
    fn moved(pool: &[Candidate], odd: u32) -> f64 {
        let others: Vec<_> = pool.iter().filter(|candidate| candidate.number != odd).cloned().collect();
        let (with, without) = (table(pool).unwrap(), table(&others).unwrap());
        let kept = with.iter().zip(&without).filter(|(with, without)| with == without).count();
        let theirs = with.iter().filter(|number| **number != odd).count();
        (theirs - kept) as f64 / theirs as f64
    }

    #[test]
    fn of_a_hundred_backends_one_lost_or_added_moves_less_than_one_percent_of_other_flows_on_average() {
        for weights in [[1; 100].to_vec(), (1..=100).map(|n| n * 655).collect()] {
            let pool = pool(&weights);
            let moved: f64 = (0..100).step_by(5).map(|odd| moved(&pool, odd)).sum();
            assert!(moved / 20.0 < 0.01, "{}", moved / 20.0);
        }
    }

    /// The paper's pseudocode 1.
    fn populate(candidates: &[Candidate]) -> Vec<u32> {
        let mut members: Vec<_> = candidates.iter().filter(|candidate| candidate.weight > 0).collect();
        members.sort();
        let mut next: Vec<_> = members.iter().map(|member| Permutation::new(&member.identity)).collect();
        let mut entries = vec![None; TABLE_ENTRIES as usize];
        let mut filled = 0;
        loop {
            for (member, next) in members.iter().zip(&mut next) {
                while entries[next.position as usize].is_some() {
                    next.position = (next.position + next.skip) % TABLE_ENTRIES;
                }
                entries[next.position as usize] = Some(member.number);
                filled += 1;
                if filled == TABLE_ENTRIES {
                    return entries.into_iter().flatten().collect();
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn without_weights_the_table_is_the_papers(members in prop::collection::vec(any::<bool>(), 1..40), weight in 1_u16..) {
            prop_assume!(members.contains(&true));
            let weights: Vec<_> = members.into_iter().map(|member| u16::from(member) * weight).collect();
            let pool = pool(&weights);
            prop_assert_eq!(table(&pool).unwrap(), populate(&pool));
        }

        #[test]
        fn up_to_a_hundred_backends_get_within_one_percent_of_any_weights(weights in weights(1..=100)) {
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let counts = counts(&table(&pool(&weights)).unwrap());
            for (number, weight) in (0..).zip(&weights) {
                let exact = f64::from(TABLE_ENTRIES) * f64::from(*weight) / total;
                let entries = f64::from(counts.get(&number).copied().unwrap_or(0));
                prop_assert!(entries >= 1.0);
                prop_assert!(
                    (entries - exact).abs() <= (exact / 100.0).max(2.0),
                    "{number}: {entries} entries, {exact} by weight"
                );
            }
        }
    }

    proptest! {
        // How many flows move is a property of pools in practice, not of every pool that there could be: the same pools
        // at every run.
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(0), ..ProptestConfig::with_cases(64) })]
        // The paper's section 5.3, figure 12: of 65,537 entries, a little more than 2 % change when one backend in a
        // hundred fails.
        #[test]
        fn one_backend_lost_or_added_moves_no_more_than_two_percent_of_other_flows(
            weights in weights(2..=100),
            odd: prop::sample::Index,
        ) {
            let moved = moved(&pool(&weights), odd.index(weights.len()) as u32);
            prop_assert!(moved <= 0.02, "{moved}");
        }
    }
}
