//! How long the tables of an earlier daemon are left alone after the start. It knew which backends were up.

#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

/// For what is not a check: the ways to the backends are read at once.
const SETTLES: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    /// First checks that have not ended are waited for, however long they wait for their turn, or their reports for this daemon: an
    /// end they have.
    waits: bool,
}

impl Patience {
    pub(super) const fn new(began: Instant) -> Self {
        Self { began, waits: true }
    }

    /// The first check of every backend has been heard of. Those of backends that are added later are not waited for: what was
    /// there is not that of an earlier daemon any more.
    pub(super) const fn heard_all(&mut self) {
        self.waits = false;
    }

    /// Whether it lasts for a service with checks of such a timeout. `unheard`: of the first check of one of its backends nothing was
    /// heard yet.
    pub(super) fn lasts(&self, timeout: Duration, unheard: bool, now: Instant) -> bool {
        self.waits && unheard || now.saturating_duration_since(self.began) < timeout + SETTLES
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a first instant to count from")]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(250);

    #[test]
    fn first_checks_are_waited_for_however_late_they_are_heard_of() {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        let late = began + Duration::from_secs(60);
        assert!(patience.lasts(TIMEOUT, true, late));
        assert!(!patience.lasts(TIMEOUT, false, late), "another service has heard of its own");
        patience.heard_all();
        assert!(!patience.lasts(TIMEOUT, true, late), "that backend is new");
    }

    #[test]
    fn what_is_no_check_is_waited_for_as_long_as_a_check_may_take() {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        patience.heard_all();
        for (after, lasts) in [(0, true), (1_249, true), (1_250, false)] {
            assert_eq!(
                patience.lasts(TIMEOUT, false, began + Duration::from_millis(after)),
                lasts,
                "{after} ms"
            );
        }
    }
}
