//! Whose turn it is: smooth weighted round robin.
//!
//! Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980): of `n` members, after any number of
//! turns, each has had its exact share of them but for at most `1 - 1 / (2n - 2)` of a turn, and no rule does better for
//! all weights. A turn goes to the member with the earliest deadline among those that are due: due when it is behind its
//! share by the bound's complement, and with the deadline at which it would be behind by more than the bound.

#![deny(clippy::disallowed_methods)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lb_common::limits::{BACKENDS, TABLE_ENTRIES};

use super::{Candidate, in_order};

/// Everybody in turn, or `None` if nobody takes new flows.
#[must_use]
pub fn equal(candidates: &[Candidate]) -> Option<Vec<u32>> {
    table(candidates, |_| 1)
}

/// Turns in proportion to the weights, one at least for everybody, or `None` if nobody takes new flows. Runs in the
/// order of entries times the logarithm of the candidates.
#[must_use]
pub fn weighted(candidates: &[Candidate]) -> Option<Vec<u32>> {
    table(candidates, |candidate| candidate.weight)
}

fn table(candidates: &[Candidate], weight: impl Fn(&Candidate) -> u16) -> Option<Vec<u32>> {
    let members = in_order(candidates);
    let weights: Vec<u16> = members.iter().map(|member| weight(member)).collect();
    (!members.is_empty()).then(|| turns(&weights).into_iter().map(|turn| members[turn].number).collect())
}

/// As many turns as a table has entries, each the index of a weight; none if there are no weights. There are at most
/// [`BACKENDS`] weights, and all are more than 0.
pub(super) fn turns(weights: &[u16]) -> Vec<usize> {
    if weights.iter().all(|weight| *weight == weights[0]) {
        // What the rule comes to, without its cost.
        return (0..weights.len()).cycle().take(TABLE_ENTRIES as usize).collect();
    }
    Turns::new(weights).collect()
}

struct Turns {
    members: Vec<Member>,
    /// Of all members.
    weight: u64,
    /// A member is due when it is one part of a turn behind its share, of this many.
    parts: u64,
    turn: u64,
    /// By the first turn they are due in.
    waiting: BinaryHeap<Reverse<(u64, usize)>>,
    /// By deadline.
    due: BinaryHeap<Reverse<(u64, usize)>>,
}

#[derive(Clone, Copy)]
struct Member {
    /// From 1 to 65535.
    weight: u64,
    had: u64,
}

impl Turns {
    fn new(weights: &[u16]) -> Self {
        let weights = raised(weights);
        let mut turns = Self {
            weight: weights.iter().sum(),
            parts: (2 * weights.len() as u64).saturating_sub(2).max(1),
            turn: 0,
            waiting: BinaryHeap::with_capacity(weights.len()),
            due: BinaryHeap::with_capacity(weights.len()),
            members: weights.into_iter().map(|weight| Member { weight, had: 0 }).collect(),
        };
        for index in 0..turns.members.len() {
            turns.wait(index);
        }
        turns
    }

    fn wait(&mut self, index: usize) {
        let due = self.due_from(self.members[index]);
        if due <= self.turn + 1 {
            self.due.push(Reverse((self.deadline(self.members[index]), index)));
        } else if due <= u64::from(TABLE_ENTRIES) {
            self.waiting.push(Reverse((due, index)));
        }
    }

    /// The first turn before which it is a part behind: the least `t` with `t * weight / total - had >= 1 / parts`.
    fn due_from(&self, member: Member) -> u64 {
        (self.weight * (self.parts * member.had + 1)).div_ceil(self.parts * member.weight)
    }

    /// Orders members by the time when they will be behind by a turn less one part. The total weight is left out, being
    /// the same for all; two fractions with 16-bit denominators that differ at all do so by more than 2^-32.
    fn deadline(&self, member: Member) -> u64 {
        ((self.parts * (member.had + 1) - 1) << 32) / member.weight
    }
}

// No product overflows: there are fewer than 2^15 parts, a member has had at most 2^16 + 1 turns, and the total weight is
// less than 2^30.
const _: () = assert!(2 * BACKENDS <= 1 << 15 && TABLE_ENTRIES <= (1 << 16) + 1);

impl Iterator for Turns {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.turn == u64::from(TABLE_ENTRIES) {
            return None;
        }
        while let Some(Reverse((from, index))) = self.waiting.peek().copied() {
            if from > self.turn + 1 {
                break;
            }
            self.waiting.pop();
            self.due.push(Reverse((self.deadline(self.members[index]), index)));
        }
        // Somebody is due: together they are one turn behind.
        let Reverse((_, index)) = self.due.pop()?;
        self.turn += 1;
        self.members[index].had += 1;
        self.wait(index);
        Some(index)
    }
}

/// The weights, with the least of them raised until its share is an entry of the table: who has a weight takes flows.
fn raised(weights: &[u16]) -> Vec<u64> {
    let mut least = 1;
    loop {
        let raised: Vec<u64> = weights.iter().map(|weight| least.max(u64::from(*weight))).collect();
        let needed = raised.iter().sum::<u64>().div_ceil(u64::from(TABLE_ENTRIES));
        // Ends at the largest weight at the latest: there are fewer members than entries.
        if needed <= least {
            return raised;
        }
        least = needed;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weights() -> impl Strategy<Value = Vec<u16>> {
        let weight = prop_oneof![1_u16..=10, 1_u16..=u16::MAX, Just(1), Just(u16::MAX)];
        prop::collection::vec(weight, 1..200)
    }

    fn count(turns: &[usize], members: usize) -> Vec<u64> {
        turns.iter().fold(vec![0; members], |mut counts, turn| {
            counts[*turn] += 1;
            counts
        })
    }

    #[test]
    fn the_heavier_ones_turns_are_spread() {
        let turns: Vec<_> = Turns::new(&[5, 1, 1]).take(14).collect();
        assert_eq!(turns, [0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 2, 0]);
    }

    #[test]
    fn a_weight_of_one_beside_the_heaviest_still_has_a_turn() {
        let mut weights = vec![u16::MAX; 1000];
        weights[500] = 1;
        assert_eq!(count(&turns(&weights), 1000)[500], 1);
    }

    #[test]
    fn as_many_and_as_heavy_as_there_may_be_overflow_nothing_and_all_have_turns() {
        let mut weights = vec![u16::MAX; BACKENDS as usize];
        weights[0] = 1;
        let counts = count(&turns(&weights), weights.len());
        assert_eq!(counts.iter().sum::<u64>(), u64::from(TABLE_ENTRIES));
        assert!(counts.iter().all(|count| *count > 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn after_any_number_of_turns_each_has_its_share_within_tijdemans_bound(weights in weights()) {
            let shares = raised(&weights);
            let total: u64 = shares.iter().sum();
            let mut had = vec![0; weights.len()];
            // In parts of `1 / (parts * total)` of a turn. A single member has exactly its share.
            let parts = (2 * weights.len() as u64 - 2).max(1);
            let bound = (parts - 1) * total;
            let mut turns = 0;
            for turn in Turns::new(&weights) {
                // The farthest behind is who gets a turn next, and the farthest ahead is who just did.
                let behind = |turns: u64, had: u64| (parts * turns * shares[turn]).saturating_sub(parts * total * had);
                prop_assert!(behind(turns, had[turn]) <= bound, "turn {turns} of {turn}");
                turns += 1;
                had[turn] += 1;
                let ahead = (parts * total * had[turn]).saturating_sub(parts * turns * shares[turn]);
                prop_assert!(ahead <= bound, "turn {turns} of {turn}");
            }
            prop_assert_eq!(turns, u64::from(TABLE_ENTRIES));
            for (had, share) in had.iter().zip(&shares) {
                prop_assert!((parts * turns * share).abs_diff(parts * total * had) <= bound);
            }
        }

        #[test]
        fn weights_are_raised_no_further_than_to_an_entry(weights in weights()) {
            let shares = raised(&weights);
            let needed = shares.iter().sum::<u64>().div_ceil(u64::from(TABLE_ENTRIES));
            for (weight, share) in weights.iter().zip(&shares) {
                prop_assert_eq!(*share, u64::from(*weight).max(needed));
            }
        }

        #[test]
        fn equal_weights_take_strict_turns(members in 1_usize..300, weight in 1_u16..) {
            let weights = vec![weight; members];
            prop_assert!(Turns::new(&weights).eq((0..members).cycle().take(TABLE_ENTRIES as usize)));
            prop_assert_eq!(turns(&weights), Turns::new(&weights).collect::<Vec<_>>());
        }
    }
}
