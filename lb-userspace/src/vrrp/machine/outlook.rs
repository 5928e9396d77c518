//! What a backup waits for, in words for a person.
#![deny(clippy::disallowed_methods)]

use std::time::Instant;

use super::{Machine, Peer, State};
use crate::config::model::Preempt;

/// Why a backup is not master now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// No master was heard.
    Unopposed { takes_over_at: Instant },
    /// Its priority is ours or higher.
    Follows { master: Peer, own: u8 },
    /// Its priority is lower, and preemption is off.
    LeavesBe { master: Peer, own: u8 },
    /// Its priority is lower, and this node has handed over by command.
    Yielded { master: Peer, own: u8 },
    /// Its priority is lower. Of a master that falls silent before, it takes over sooner.
    Preempts { master: Peer, own: u8, takes_over_at: Instant },
}

impl Machine {
    /// Of a backup; `None` in other states.
    #[must_use]
    pub fn outlook(&self) -> Option<Outlook> {
        let State::Backup(backup) = &self.state else { return None };
        let standing = self.standing();
        let deadline = backup.deadline(&self.config.channels, standing)?;
        let own = standing.priority;
        Some(match (backup.master(), standing.preempt) {
            (None, _) => Outlook::Unopposed { takes_over_at: deadline },
            (Some(master), _) if master.priority >= own => Outlook::Follows { master, own },
            (Some(master), Preempt::After(_)) => {
                let preemption = backup.preemption(&self.config.channels, standing);
                Outlook::Preempts { master, own, takes_over_at: preemption.unwrap_or(deadline) }
            }
            (Some(master), Preempt::Never) if self.yielded => Outlook::Yielded { master, own },
            (Some(master), Preempt::Never) => Outlook::LeavesBe { master, own },
        })
    }
}

impl Outlook {
    /// As of `now`, which may be long after the machine's last event.
    #[must_use]
    pub fn in_words(&self, now: Instant) -> String {
        let takes_over = |at: Instant| {
            let seconds = at.saturating_duration_since(now).as_secs_f64();
            format!("taking over in {seconds:.1} s")
        };
        let follows = |master: Peer, own: u8| {
            format!("{} is master with priority {}, ours is {own}", master.address, master.priority)
        };
        match *self {
            Self::Unopposed { takes_over_at } => {
                format!("no master is heard: {}", takes_over(takes_over_at))
            }
            Self::Follows { master, own } => follows(master, own),
            Self::LeavesBe { master, own } => format!("{}, and preemption is off", follows(master, own)),
            Self::Yielded { master, own } => {
                format!("{}, but we handed over by evenkeel failover", follows(master, own))
            }
            Self::Preempts { master, own, takes_over_at } => {
                format!("{}: {}", follows(master, own), takes_over(takes_over_at))
            }
        }
    }
}
