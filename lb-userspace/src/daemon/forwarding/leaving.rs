//! Backends that have left the configuration: until their flows have ended, or their time is over.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Censuses in a row that find no flow of a draining backend before its number is free: the first may have begun before
/// the last flow was stored.
const QUIET_CENSUSES: u8 = 2;

#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<u32, Left>);

#[derive(Debug)]
struct Left {
    at: Instant,
    /// For its flows; `None`: until they end.
    time: Option<Duration>,
    /// Censuses since that found no flow, in a row; `None` before the first.
    quiet: Option<u8>,
}

impl Leaving {
    /// Takes the backends that drain now, by number. `time` is what the flows of one have, asked when it leaves.
    pub(super) fn follow(
        &mut self,
        draining: &BTreeSet<u32>,
        time: impl Fn(u32) -> Option<Duration>,
        now: Instant,
    ) {
        self.0.retain(|number, _| draining.contains(number));
        for number in draining {
            self.0.entry(*number).or_insert_with(|| Left { at: now, time: time(*number), quiet: None });
        }
    }

    pub(super) fn count(&mut self, flows: &BTreeMap<u32, u64>) {
        for (number, left) in &mut self.0 {
            let quiet = left.quiet.unwrap_or(0);
            left.quiet = Some(if flows.contains_key(number) { 0 } else { quiet.saturating_add(1) });
        }
    }

    /// Those that no flow refers to.
    pub(super) fn unused(&self) -> BTreeSet<u32> {
        let unused = self.0.iter().filter(|(_, left)| left.quiet.is_some_and(|n| n >= QUIET_CENSUSES));
        unused.map(|(number, _)| *number).collect()
    }

    /// Those whose flows have had their time.
    pub(super) fn overdue(&self, now: Instant) -> BTreeSet<u32> {
        self.0.keys().copied().filter(|number| self.is_overdue(*number, now)).collect()
    }

    pub(super) fn is_overdue(&self, number: u32, now: Instant) -> bool {
        let time = self.0.get(&number).and_then(|left| Some((left.at, left.time?)));
        time.is_some_and(|(at, time)| now.saturating_duration_since(at) >= time)
    }

    /// When a backend left.
    pub(super) fn since(&self, number: u32) -> Option<Instant> {
        self.0.get(&number).map(|left| left.at)
    }

    /// What the last census found; `None` until it is known to have counted since the backend left.
    pub(super) fn flows_left(&self, number: u32, flows: u64) -> Option<u64> {
        let quiet = self.0.get(&number)?.quiet?;
        (flows > 0 || quiet >= QUIET_CENSUSES).then_some(flows)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a first instant to count from")]
mod tests {
    use super::*;

    fn leaving(time: Option<Duration>, now: Instant) -> Leaving {
        let mut leaving = Leaving::default();
        leaving.follow(&BTreeSet::from([7]), |_| time, now);
        leaving
    }

    #[test]
    fn flows_left_are_told_only_once_they_were_counted_since_the_backend_left() {
        let mut leaving = leaving(None, Instant::now());
        assert_eq!(leaving.flows_left(7, 0), None);
        assert_eq!(leaving.flows_left(7, 21), None);
        leaving.count(&BTreeMap::from([(7, 21)]));
        assert_eq!(leaving.flows_left(7, 21), Some(21));
        leaving.count(&BTreeMap::new());
        assert_eq!(leaving.flows_left(7, 0), None);
        assert!(leaving.unused().is_empty());
        leaving.count(&BTreeMap::new());
        assert_eq!(leaving.flows_left(7, 0), Some(0));
        assert_eq!(leaving.unused(), BTreeSet::from([7]));
    }

    #[test]
    fn a_flow_found_late_starts_the_count_of_quiet_censuses_anew() {
        let mut leaving = leaving(None, Instant::now());
        leaving.count(&BTreeMap::new());
        leaving.count(&BTreeMap::from([(7, 1)]));
        leaving.count(&BTreeMap::new());
        assert!(leaving.unused().is_empty());
    }

    #[test]
    fn the_time_of_a_backend_counts_from_when_it_left_whatever_else_changes() {
        let start = Instant::now();
        let mut leaving = leaving(Some(Duration::from_secs(60)), start);
        let at = |second| start + Duration::from_secs(second);
        leaving.follow(&BTreeSet::from([7, 8]), |_| None, at(59));
        assert!(leaving.overdue(at(59)).is_empty());
        assert_eq!(leaving.overdue(at(60)), BTreeSet::from([7]));
        assert!(leaving.is_overdue(7, at(60)) && !leaving.is_overdue(8, at(100_000)));
        leaving.follow(&BTreeSet::new(), |_| None, at(61));
        leaving.follow(&BTreeSet::from([7]), |_| Some(Duration::from_secs(60)), at(62));
        assert!(leaving.overdue(at(63)).is_empty(), "it came back and left again");
    }
}
