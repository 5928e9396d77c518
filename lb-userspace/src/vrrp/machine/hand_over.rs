//! A master that goes, by a stop or by command, without a moment in which nobody serves.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::{Action, Heard, Machine, Reason, State, leave_limit};

/// From a new master's first advertisement to its addresses being there and announced.
pub(super) const LINGER: Duration = Duration::from_millis(20);

/// Between two advertisements of priority 0. A backup counts the first only (see [`super::super::backup`]).
const TELL_AGAIN_AFTER: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Leaving {
    until: Instant,
    /// When priority 0 is sent again: one lost packet must not cost the down interval.
    again: Instant,
    then: Then,
    /// Who took over, and on which channel it was heard, if that is still there.
    successor: Option<(Option<usize>, Heard)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stopped,
    Backup,
}

impl Leaving {
    pub(super) fn next_due(&self) -> Instant {
        if self.successor.is_some() { self.until } else { self.until.min(self.again) }
    }

    pub(super) fn is_final(&self) -> bool {
        self.then == Then::Stopped
    }

    pub(super) fn heard(&mut self, channel: usize, heard: Heard, now: Instant) {
        if heard.from.priority > 0 && self.successor.is_none() {
            self.successor = Some((Some(channel), heard));
            self.until = self.until.min(now + LINGER);
        }
    }

    /// `kept` says for each channel which one it was before.
    pub(super) fn carry_over(&mut self, kept: &[Option<usize>]) {
        if let Some((channel, _)) = &mut self.successor {
            *channel = channel.and_then(|before| kept.iter().position(|kept| *kept == Some(before)));
        }
    }
}

impl Machine {
    pub(super) fn stop(&mut self, now: Instant) {
        match &mut self.state {
            State::Stopped => {}
            State::Leaving(leaving) => {
                leaving.then = Then::Stopped;
                self.reason = Reason::Stopped;
            }
            State::Init | State::Fault | State::Backup(_) => self.change(State::Stopped, Reason::Stopped),
            State::Master(_) => {
                let leaving = self.tell_all(Then::Stopped, now);
                self.change(State::Leaving(leaving), Reason::Stopped);
            }
        }
    }

    pub(super) fn yield_mastership(&mut self, now: Instant) {
        if let State::Master(_) = self.state {
            self.yielded = true;
            self.state = State::Leaving(self.tell_all(Then::Backup, now));
        }
    }

    pub(super) fn unyield(&mut self) {
        self.yielded = false;
    }

    /// RFC 9568 section 6.4.3 lets go at once, and nobody serves for the skew of the next master.
    fn tell_all(&mut self, then: Then, now: Instant) -> Leaving {
        self.send_on_all(0);
        let limits =
            self.config.channels.iter().map(|channel| leave_limit(channel.version, channel.interval));
        let limit = limits.max().unwrap_or_default();
        Leaving { until: now + limit, again: now + TELL_AGAIN_AFTER, then, successor: None }
    }

    /// The successor serves, or there is none; or the others are told once more.
    pub(super) fn leave(&mut self, now: Instant) {
        let State::Leaving(leaving) = &mut self.state else { return };
        if now < leaving.until {
            leaving.again = now + TELL_AGAIN_AFTER;
            self.send_on_all(0);
            return;
        }
        match (leaving.then, leaving.successor) {
            (Then::Stopped, _) => self.end(),
            (Then::Backup, Some((channel, heard))) => {
                self.actions.push(Action::ReleaseAddresses);
                let backup = self.backup_to(channel, heard, now);
                self.change(State::Backup(backup), Reason::HandedOver { master: heard.from });
            }
            (Then::Backup, None) => self.become_master(Reason::NoSuccessor, now),
        }
    }

    pub(super) fn end(&mut self) {
        self.actions.push(Action::ReleaseAddresses);
        self.change(State::Stopped, Reason::Stopped);
    }
}
