//! In what order addresses are announced, several times each.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeSet, VecDeque};

use crate::net::address::Address;

/// Frames for each address in one burst, as keepalived sends: one may be lost.
pub(super) const ROUNDS: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// By how often they were announced.
    queues: [VecDeque<Address>; ROUNDS],
    queued: BTreeSet<Address>,
}

impl Pacing {
    /// Has an address announced a whole burst, unless one of it is under way.
    pub(super) fn add(&mut self, address: Address) {
        if self.queued.insert(address) {
            self.queues[0].push_back(address);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Whether there are addresses that were not announced yet.
    pub(super) fn is_urgent(&self) -> bool {
        !self.queues[0].is_empty()
    }

    /// The next to announce: every address once before any the second time. To be called after it was announced, `next`
    /// puts it in the next round.
    pub(super) fn peek(&self) -> Option<Address> {
        self.queues.iter().find_map(|queue| queue.front()).copied()
    }

    /// The one that [`Self::peek`] gave was announced.
    pub(super) fn sent(&mut self) {
        let Some(round) = self.queues.iter().position(|queue| !queue.is_empty()) else { return };
        let Some(address) = self.queues[round].pop_front() else { return };
        match self.queues.get_mut(round + 1) {
            Some(next) => next.push_back(address),
            None => drop(self.queued.remove(&address)),
        }
    }

    /// The one that [`Self::peek`] gave is not to be announced any more.
    pub(super) fn drop_next(&mut self) {
        let address = self.queues.iter_mut().find_map(VecDeque::pop_front);
        if let Some(address) = address {
            self.queued.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn address(number: u8) -> Address {
        Address { index: 2, address: IpAddr::from([192, 0, 2, number]), length: 24 }
    }

    proptest! {
        #[test]
        fn every_address_is_announced_five_times_and_none_twice_before_all_once(numbers: BTreeSet<u8>) {
            let mut pacing = Pacing::default();
            numbers.iter().for_each(|&number| pacing.add(address(number)));
            let mut sent: BTreeMap<Address, usize> = BTreeMap::new();
            while let Some(next) = pacing.peek() {
                let round = sent.entry(next).or_default();
                *round += 1;
                let round = *round;
                prop_assert!(numbers.iter().all(|&number| sent.get(&address(number)).copied().unwrap_or(0) + 1 >= round));
                pacing.sent();
            }
            prop_assert!(pacing.is_empty());
            prop_assert!(numbers.iter().all(|&number| sent[&address(number)] == ROUNDS));
        }
    }

    #[test]
    fn one_that_is_being_announced_is_not_begun_again_and_a_new_one_goes_first() {
        let mut pacing = Pacing::default();
        pacing.add(address(1));
        pacing.sent();
        pacing.add(address(1));
        pacing.add(address(2));
        assert!(pacing.is_urgent());
        assert_eq!(pacing.peek(), Some(address(2)));
        pacing.drop_next();
        assert!(!pacing.is_urgent());
        let rest = std::iter::from_fn(|| pacing.peek().inspect(|_| pacing.sent())).count();
        assert_eq!(rest, ROUNDS - 1);
    }
}
