//! Which services have all of their flows where their table says: a SYN of theirs need not ask the flow table.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};

/// Censuses in a row that find no flow of a service elsewhere before there is none: one may wait to be read and one may be
/// under way when a table changes, and both went by the table before.
const QUIET_CENSUSES: u8 = 3;

/// Quiet censuses by number of the service.
#[derive(Debug, Default)]
pub(super) struct Placed(BTreeMap<u32, u8>);

impl Placed {
    /// Starts anew with services whose flows may be elsewhere from now on, and forgets those that are gone.
    pub(super) fn follow(&mut self, turned: &BTreeSet<u32>, services: &BTreeSet<u32>) {
        self.0.retain(|number, _| services.contains(number));
        for number in services {
            let quiet = self.0.entry(*number).or_default();
            if turned.contains(number) {
                *quiet = 0;
            }
        }
    }

    /// `misplaced` are flows elsewhere by service.
    pub(super) fn count(&mut self, misplaced: &BTreeMap<u32, u64>) {
        for (number, quiet) in &mut self.0 {
            let elsewhere = misplaced.get(number).is_some_and(|flows| *flows > 0);
            *quiet = if elsewhere { 0 } else { quiet.saturating_add(1) };
        }
    }

    pub(super) fn all(&self) -> BTreeSet<u32> {
        let placed = self.0.iter().filter(|(_, quiet)| **quiet >= QUIET_CENSUSES);
        placed.map(|(number, _)| *number).collect()
    }

    /// Whether a service's flows are still to be looked for, of those that `matters`.
    pub(super) fn is_waiting(&self, matters: impl Fn(u32) -> bool) -> bool {
        self.0.iter().any(|(number, quiet)| *quiet < QUIET_CENSUSES && matters(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_placed_only_after_several_censuses_since_its_table_changed() {
        let mut placed = Placed::default();
        let services = BTreeSet::from([1, 2]);
        placed.follow(&services, &services);
        let none = BTreeMap::new();
        placed.count(&none);
        placed.count(&BTreeMap::from([(1, 5)]));
        placed.count(&none);
        assert_eq!(placed.all(), BTreeSet::from([2]));
        assert!(placed.is_waiting(|_| true) && !placed.is_waiting(|number| number == 2));
        placed.follow(&BTreeSet::from([2]), &services);
        placed.count(&none);
        assert_eq!(placed.all(), BTreeSet::new());
        placed.count(&none);
        assert_eq!(placed.all(), BTreeSet::from([1]));
        placed.follow(&BTreeSet::new(), &BTreeSet::from([2]));
        placed.count(&none);
        assert_eq!(placed.all(), BTreeSet::from([2]));
    }
}
