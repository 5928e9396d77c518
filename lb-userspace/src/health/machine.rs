//! The health of one backend: what probes found, damped by rise and fall.

#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::probe::ProbeError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No probe has been answered or has failed yet; the first one decides, whatever `rise` and `fall`.
    Checking,
    Up,
    Down,
}

/// A change of state, for the log and for whoever rebuilds the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub from: State,
    pub to: State,
    pub reason: String,
}

#[derive(Debug, Clone)]
pub struct Machine {
    state: State,
    since: Instant,
    rise: u32,
    fall: u32,
    /// Results in a row that speak against the state.
    against: u32,
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Last {
    result: Result<(), ProbeError>,
    took: Duration,
    at: Instant,
}

impl Machine {
    /// `rise` and `fall` count results in a row; 0 is taken for 1.
    #[must_use]
    pub const fn new(rise: u32, fall: u32, now: Instant) -> Self {
        Self { state: State::Checking, since: now, rise, fall, against: 0, last: None }
    }

    /// Takes new thresholds; state and the results counted so far stay, so a reload moves no traffic.
    pub const fn reconfigure(&mut self, rise: u32, fall: u32) {
        self.rise = rise;
        self.fall = fall;
    }

    /// Takes the result of a probe that took `took` and ended at `now`.
    ///
    /// A probe that this node could not even send ([`ProbeError::is_local`]) says nothing about the backend and is
    /// only remembered: a node out of file descriptors must not take down all it serves.
    pub fn handle_report(
        &mut self,
        result: &Result<(), ProbeError>,
        took: Duration,
        now: Instant,
    ) -> Option<Transition> {
        self.last = Some(Last { result: result.clone(), took, at: now });
        if result.as_ref().is_err_and(ProbeError::is_local) {
            return None;
        }
        let found = if result.is_ok() { State::Up } else { State::Down };
        if found == self.state {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < self.needed() {
            return None;
        }
        let from = std::mem::replace(&mut self.state, found);
        self.since = now;
        self.against = 0;
        Some(Transition { from, to: found, reason: self.reason() })
    }

    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When the state was entered.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// What the last probe found and, where it speaks against the state, how far that is from changing it.
    #[must_use]
    pub fn reason(&self) -> String {
        let Some(last) = &self.last else {
            return "no check has finished yet".to_owned();
        };
        match (&last.result, self.against) {
            (Ok(()), 0) => "check passed".to_owned(),
            (Ok(()), passed) => format!("check passed {passed} of {} times", self.needed()),
            (Err(error), 0) => error.to_string(),
            (Err(error), _) if error.is_local() => error.to_string(),
            (Err(error), failed) => format!("{error} (failure {failed} of {})", self.needed()),
        }
    }

    /// How long the last probe took; `None` before the first.
    #[must_use]
    pub fn check_duration(&self) -> Option<Duration> {
        self.last.as_ref().map(|last| last.took)
    }

    /// When the last probe ended; `None` before the first.
    #[must_use]
    pub fn checked_at(&self) -> Option<Instant> {
        self.last.as_ref().map(|last| last.at)
    }

    /// Results in a row that change the state.
    fn needed(&self) -> u32 {
        match self.state {
            State::Checking => 1,
            State::Up => self.fall.max(1),
            State::Down => self.rise.max(1),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a first instant to count from")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOOK: Duration = Duration::from_millis(3);

    fn refused() -> Result<(), ProbeError> {
        Err(ProbeError::Refused)
    }

    fn local() -> Result<(), ProbeError> {
        Err(ProbeError::Local("too many open files".to_owned()))
    }

    /// Feeds the results one second apart and returns the state after each.
    fn states(machine: &mut Machine, results: &[Result<(), ProbeError>]) -> Vec<State> {
        let start = machine.since();
        results
            .iter()
            .zip(1..)
            .map(|(result, second)| {
                machine.handle_report(result, TOOK, start + Duration::from_secs(second));
                machine.state()
            })
            .collect()
    }

    #[test]
    fn the_first_result_decides_whatever_rise_and_fall() {
        let now = Instant::now();
        let mut up = Machine::new(5, 5, now);
        let mut down = Machine::new(5, 5, now);
        assert_eq!(up.state(), State::Checking);
        assert_eq!(
            up.handle_report(&Ok(()), TOOK, now),
            Some(Transition { from: State::Checking, to: State::Up, reason: "check passed".to_owned() })
        );
        assert_eq!(
            down.handle_report(&refused(), TOOK, now),
            Some(Transition {
                from: State::Checking,
                to: State::Down,
                reason: "connection refused".to_owned()
            })
        );
    }

    #[test]
    fn fall_failures_in_a_row_take_down_and_rise_successes_bring_up() {
        use State::{Down, Up};
        let mut machine = Machine::new(2, 3, Instant::now());
        let results = [
            Ok(()),
            refused(),
            refused(),
            Ok(()),
            refused(),
            refused(),
            refused(),
            Ok(()),
            refused(),
            Ok(()),
            Ok(()),
        ];
        assert_eq!(states(&mut machine, &results), [Up, Up, Up, Up, Up, Up, Down, Down, Down, Down, Up]);
    }

    #[test]
    fn the_reason_tells_how_far_a_change_is() {
        let mut machine = Machine::new(2, 3, Instant::now());
        assert_eq!(machine.reason(), "no check has finished yet");
        states(&mut machine, &[Ok(()), refused(), refused()]);
        assert_eq!(machine.reason(), "connection refused (failure 2 of 3)");
        states(&mut machine, &[refused()]);
        assert_eq!(machine.reason(), "connection refused");
        states(&mut machine, &[Ok(())]);
        assert_eq!(machine.reason(), "check passed 1 of 2 times");
        states(&mut machine, &[Ok(())]);
        assert_eq!(machine.reason(), "check passed");
    }

    #[test]
    fn a_probe_this_node_could_not_send_changes_nothing_but_is_shown() {
        let mut machine = Machine::new(1, 2, Instant::now());
        assert_eq!(states(&mut machine, &[local(), local()]), [State::Checking, State::Checking]);
        assert_eq!(
            states(&mut machine, &[Ok(()), refused(), local(), local()]),
            [State::Up, State::Up, State::Up, State::Up]
        );
        assert_eq!(machine.reason(), "not checked, this node failed: too many open files");
        assert_eq!(states(&mut machine, &[refused()]), [State::Down]);
    }

    #[test]
    fn since_moves_only_with_the_state_and_checked_at_with_every_probe() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut machine = Machine::new(1, 1, start);
        machine.handle_report(&Ok(()), TOOK, at(1));
        machine.handle_report(&Ok(()), 2 * TOOK, at(2));
        assert_eq!(machine.since(), at(1));
        assert_eq!(machine.checked_at(), Some(at(2)));
        assert_eq!(machine.check_duration(), Some(2 * TOOK));
    }

    #[test]
    fn reconfigure_keeps_the_state_and_what_was_counted() {
        let mut machine = Machine::new(1, 3, Instant::now());
        states(&mut machine, &[Ok(()), refused()]);
        machine.reconfigure(1, 2);
        assert_eq!(machine.state(), State::Up);
        assert_eq!(states(&mut machine, &[refused()]), [State::Down]);
    }

    proptest! {
        #[test]
        fn the_state_is_what_the_history_says(
            history in prop::collection::vec(any::<bool>(), 1..200),
            rise in 0_u32..6,
            fall in 0_u32..6,
        ) {
            let start = Instant::now();
            let mut machine = Machine::new(rise, fall, start);
            let mut expected = State::Checking;
            for (index, &passed) in history.iter().enumerate() {
                let before = machine.state();
                let result = if passed { Ok(()) } else { refused() };
                let transition = machine.handle_report(&result, TOOK, start + Duration::from_secs(index as u64));

                let seen = &history[..=index];
                let in_a_row = seen.iter().rev().take_while(|&&p| p == passed).count();
                expected = match (expected, passed) {
                    (State::Checking, true) => State::Up,
                    (State::Checking, false) => State::Down,
                    (State::Up, false) if in_a_row >= fall.max(1) as usize => State::Down,
                    (State::Down, true) if in_a_row >= rise.max(1) as usize => State::Up,
                    (state, _) => state,
                };
                prop_assert_eq!(machine.state(), expected);
                prop_assert_eq!(transition.map(|t| (t.from, t.to)), (before != expected).then_some((before, expected)));
                prop_assert!(!machine.reason().is_empty());
            }
        }
    }
}
