//! What a sweep counts.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use crate::dataplane::expiry::State;

/// What one sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    pub ipv4: Filling,
    pub ipv6: Filling,
    /// Flows that expired in this sweep.
    pub expired: u64,
    /// Halves that were missing and are there again.
    pub repaired: u64,
    /// Halves that were taken out of use because they were no flow without the other one.
    pub orphaned: u64,
    /// Flows that have not ended, by number of their backend.
    pub active: BTreeMap<u32, u64>,
    /// All flows, ending ones included, by number of their backend.
    pub all: BTreeMap<u32, u64>,
    /// Flows by state.
    pub states: BTreeMap<State, u64>,
    /// Return hops in use.
    pub hops: u64,
    /// Flows that are elsewhere than their service's scheduler would have them now, by number of the service; `None` if
    /// nobody asked.
    pub misplaced: Option<BTreeMap<u32, u64>>,
}

/// How full a table is after the sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filling {
    /// Halves of flows.
    pub entries: u64,
    pub slots: u64,
}

impl Census {
    /// Flows of a backend that have not ended.
    #[must_use]
    pub fn active(&self, backend: u32) -> u64 {
        self.active.get(&backend).copied().unwrap_or(0)
    }

    /// Flows of a backend that have ended and are remembered.
    #[must_use]
    pub fn inactive(&self, backend: u32) -> u64 {
        let all = self.all.get(&backend).copied().unwrap_or(0);
        // A flow that ended while it was counted may be in one of them only.
        all.saturating_sub(self.active(backend))
    }

    /// Entries of both tables.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.ipv4.entries + self.ipv6.entries
    }
}

/// Numbers that 16 bits tell apart: of backends and of hops.
const NUMBERS: usize = 1 << 16;

/// Counts while a sweep goes on; large and kept from one to the next. They may be below 0 meanwhile, for what is taken back
/// before it is added.
pub(super) struct Tally {
    all: Box<[i32]>,
    active: Box<[i32]>,
    states: [i64; State::ALL.len()],
    hops: Box<[u64]>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            all: vec![0; NUMBERS].into(),
            active: vec![0; NUMBERS].into(),
            states: [0; State::ALL.len()],
            hops: vec![0; NUMBERS / 64].into(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.all.fill(0);
        self.active.fill(0);
        self.states.fill(0);
        self.hops.fill(0);
    }

    pub(super) fn add(&mut self, backend: u32, state: State) {
        self.count(backend, state, 1);
    }

    pub(super) fn take(&mut self, backend: u32, state: State) {
        self.count(backend, state, -1);
    }

    fn count(&mut self, backend: u32, state: State, by: i32) {
        let backend = backend as usize % NUMBERS;
        self.all[backend] += by;
        self.active[backend] += if state.is_active() { by } else { 0 };
        self.states[state as usize] += i64::from(by);
    }

    pub(super) fn add_hop(&mut self, hop: u32) {
        let hop = hop as usize % NUMBERS;
        self.hops[hop / 64] |= 1 << (hop % 64);
    }

    pub(super) fn has_hop(&self, hop: u32) -> bool {
        let hop = hop as usize % NUMBERS;
        self.hops[hop / 64] >> (hop % 64) & 1 != 0
    }

    pub(super) fn report(&self, census: &mut Census) {
        // A flow that changes its state while it is counted may be taken where it was not added.
        let counts = |numbers: &[i32]| {
            let counts = (0..).zip(numbers).filter(|(_, count)| **count > 0);
            counts.map(|(number, count)| (number, u64::from(count.unsigned_abs()))).collect()
        };
        census.all = counts(&self.all);
        census.active = counts(&self.active);
        let states = self.states.map(|count| u64::try_from(count).unwrap_or(0));
        census.states = State::ALL.into_iter().zip(states).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_of_a_backend_are_active_until_one_end_closes_and_inactive_then() {
        let mut tally = Tally::new();
        for state in State::ALL {
            tally.add(7, state);
            tally.add(8, State::TimeWait);
        }
        tally.add(7, State::Established);
        let mut census = Census::default();
        tally.report(&mut census);
        assert_eq!((census.active(7), census.inactive(7)), (3, State::ALL.len() as u64 - 2));
        assert_eq!((census.active(8), census.inactive(8)), (0, State::ALL.len() as u64));
        assert_eq!((census.active(9), census.inactive(9)), (0, 0));
    }
}
