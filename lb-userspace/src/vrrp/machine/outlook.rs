//! What a backup waits for, in words for a person.
#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::time::{Duration, Instant};

use super::super::reason::is_master;
use super::{Machine, Peer, State};
use crate::config::model::Preempt;

/// Why a backup is not master now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// No master was heard.
    Unopposed { takes_over_in: Duration },
    /// Its priority is ours or higher.
    Follows { master: Peer, own: u8 },
    /// Its priority is lower, and preemption is off.
    LeavesBe { master: Peer, own: u8 },
    /// Its priority is lower, and this node has handed over by command.
    Yielded { master: Peer, own: u8 },
    /// Its priority is lower. Of a master that falls silent before, it takes over sooner.
    Preempts { master: Peer, own: u8, takes_over_in: Duration },
}

impl Machine {
    /// Of a backup; `None` in other states.
    #[must_use]
    pub fn outlook(&self, now: Instant) -> Option<Outlook> {
        let State::Backup(backup) = &self.state else { return None };
        let standing = self.standing();
        let deadline = backup.deadline(&self.config.channels, standing)?;
        let takes_over_in = deadline.saturating_duration_since(now);
        let own = standing.priority;
        Some(match (backup.master(), standing.preempt) {
            (None, _) => Outlook::Unopposed { takes_over_in },
            (Some(master), _) if master.priority >= own => Outlook::Follows { master, own },
            (Some(master), Preempt::After(_)) => {
                let preemption = backup.preemption(&self.config.channels, standing).unwrap_or(deadline);
                let takes_over_in = preemption.saturating_duration_since(now);
                Outlook::Preempts { master, own, takes_over_in }
            }
            (Some(master), Preempt::Never) if self.yielded => Outlook::Yielded { master, own },
            (Some(master), Preempt::Never) => Outlook::LeavesBe { master, own },
        })
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unopposed { takes_over_in } => {
                write!(f, "no master is heard: taking over in {:.1} s", takes_over_in.as_secs_f64())
            }
            Self::Follows { master, own } => is_master(f, master, own),
            Self::LeavesBe { master, own } => {
                is_master(f, master, own)?;
                write!(f, ", and preemption is off")
            }
            Self::Yielded { master, own } => {
                is_master(f, master, own)?;
                write!(f, ", but we handed over by evenkeel failover")
            }
            Self::Preempts { master, own, takes_over_in } => {
                is_master(f, master, own)?;
                write!(f, ": taking over in {:.1} s", takes_over_in.as_secs_f64())
            }
        }
    }
}
