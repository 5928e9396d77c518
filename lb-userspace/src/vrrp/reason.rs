//! Why an instance is in its state, in words for a person.
#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Another node, as its last advertisement told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub address: Ipv4Addr,
    pub priority: u8,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (priority {})", self.address, self.priority)
    }
}

/// Why the state is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The interface has not been looked at yet.
    Starting,
    /// The interface works, and a master may be there: listening.
    Listening {
        interface: String,
    },
    /// Priority 255.
    Owner,
    /// The master fell silent, or there was none.
    Silence {
        master: Option<Peer>,
        lasted: Duration,
    },
    /// The master sent priority 0.
    MasterStopped {
        master: Peer,
    },
    /// A master of lower priority was there.
    Preempted {
        master: Peer,
        own: u8,
    },
    /// Another master won by priority.
    HigherPriority {
        master: Peer,
        own: u8,
    },
    /// Another master won by address.
    HigherAddress {
        master: Peer,
        own: Ipv4Addr,
    },
    InterfaceMissing {
        interface: String,
    },
    InterfaceDown {
        interface: String,
    },
    /// Nothing to send from: the interface has no IPv4 address but the virtual ones.
    NoAddress {
        interface: String,
    },
    /// A socket could not be opened, or the like.
    Unusable {
        interface: String,
        why: String,
    },
    Stopped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => write!(f, "starting"),
            Self::Listening { interface } => write!(f, "interface {interface} is up, listening for a master"),
            Self::Owner => write!(f, "priority 255 owns the addresses"),
            Self::Silence { master: Some(master), lasted } => {
                write!(f, "no advertisement from {master} for {:.2} s", lasted.as_secs_f64())
            }
            Self::Silence { master: None, lasted } => {
                write!(f, "no advertisement from any node for {:.2} s", lasted.as_secs_f64())
            }
            Self::MasterStopped { master } => write!(f, "{} stopped", master.address),
            Self::Preempted { master, own } => {
                write!(f, "{} is master with priority {}, ours is {own}", master.address, master.priority)
            }
            Self::HigherPriority { master, own } => {
                write!(f, "{} has priority {}, ours is {own}", master.address, master.priority)
            }
            Self::HigherAddress { master, own } => {
                write!(f, "{master} has our priority and a higher address than {own}")
            }
            Self::InterfaceMissing { interface } => write!(f, "there is no interface {interface}"),
            Self::InterfaceDown { interface } => write!(f, "interface {interface} is down"),
            Self::NoAddress { interface } => write!(
                f,
                "interface {interface} has no IPv4 address to send from: give it one besides the virtual ones"
            ),
            Self::Unusable { interface, why } => write!(f, "interface {interface} cannot be used: {why}"),
            Self::Stopped => write!(f, "stopped"),
        }
    }
}
