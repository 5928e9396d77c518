//! A node that waits for the master to fall silent (RFC 9568 section 6.4.2).
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::machine::{Config, Heard};
use super::reason::{Peer, Reason};

#[derive(Debug)]
pub(super) struct Backup {
    /// When the timer below was last started.
    since: Instant,
    wait: Wait,
    /// Whose advertisements keep this node from mastership.
    master: Option<Heard>,
    /// A master of lower priority that is about to be preempted.
    lower: Option<Peer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Active_Down_Interval: three intervals and the skew.
    Down,
    /// The skew only: this master said it stops.
    Skew(Peer),
}

impl Backup {
    /// A backup that follows `master`, or waits to hear of one.
    pub(super) fn new(master: Option<Heard>, now: Instant) -> Self {
        Self { since: now, wait: Wait::Down, master, lower: None }
    }

    pub(super) fn deadline(&self, config: &Config) -> Instant {
        let interval = self.master.map_or(config.interval, |master| master.interval);
        let own = config.priority.as_u8();
        match self.wait {
            Wait::Down => self.since + down_interval(own, interval),
            Wait::Skew(_) => self.since + skew(own, interval),
        }
    }

    /// RFC 9568 section 6.4.2.
    pub(super) fn heard(&mut self, heard: Heard, config: &Config, now: Instant) {
        if heard.from.priority == 0 {
            // Only of the master it follows, so that a late copy from another node doesn't start an election;
            // and only once, so that copies don't put it off.
            let follows_another = self.master.is_some_and(|master| master.from.address != heard.from.address);
            if self.wait == Wait::Down && !follows_another {
                self.wait = Wait::Skew(heard.from);
                self.since = now;
            }
        } else if !config.preempt || heard.from.priority >= config.priority.as_u8() {
            *self = Self::new(Some(heard), now);
        } else {
            self.lower = Some(heard.from);
        }
    }

    pub(super) fn takeover_reason(&self, config: &Config, now: Instant) -> Reason {
        match (self.wait, self.lower) {
            (Wait::Skew(master), _) => Reason::MasterStopped { master },
            (Wait::Down, Some(master)) => Reason::Preempted { master, own: config.priority.as_u8() },
            (Wait::Down, None) => Reason::Silence {
                master: self.master.map(|master| master.from),
                lasted: now.saturating_duration_since(self.since),
            },
        }
    }
}

/// Active_Down_Interval (RFC 9568 section 6.1) for the interval that the master tells.
pub(super) fn down_interval(priority: u8, interval: Duration) -> Duration {
    3 * interval + skew(priority, interval)
}

/// Skew_Time (RFC 9568 section 6.1): the lower the priority, the later.
fn skew(priority: u8, interval: Duration) -> Duration {
    interval * (256 - u32::from(priority)) / 256
}
