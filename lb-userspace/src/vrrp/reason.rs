//! Why an instance is in its state, in words for a person.
#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::machine::Family;

/// Another node, as its last advertisement told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
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
    /// The interfaces have not all been looked at yet.
    Starting,
    /// The interfaces work, and a master may be there: listening.
    Listening {
        /// Each once.
        interfaces: Vec<String>,
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
        own: IpAddr,
    },
    /// Handed over by command, and the other node is master.
    HandedOver {
        master: Peer,
    },
    /// Handed over by command in vain: still, or again, master.
    NoSuccessor,
    InterfaceMissing {
        interface: String,
    },
    InterfaceDown {
        interface: String,
    },
    /// Nothing to send from: the interface has no address of the family but the virtual ones.
    NoAddress {
        interface: String,
        family: Family,
    },
    /// A socket could not be opened, or the like.
    Unusable {
        interface: String,
        why: String,
    },
    /// What is tracked says that this node cannot serve.
    Tracking {
        why: String,
    },
    Stopped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => write!(f, "starting"),
            Self::Listening { interfaces } => listening(f, interfaces),
            Self::Owner => write!(f, "priority 255 owns the addresses"),
            Self::Silence { master: Some(master), lasted } => {
                write!(f, "no advertisement from {master} for {:.2} s", lasted.as_secs_f64())
            }
            Self::Silence { master: None, lasted } => {
                write!(f, "no advertisement from any node for {:.2} s", lasted.as_secs_f64())
            }
            Self::MasterStopped { master } => {
                write!(f, "{} gave the mastership away (priority 0)", master.address)
            }
            Self::Preempted { master, own } => {
                write!(f, "took over from {} (priority {}, ours is {own})", master.address, master.priority)
            }
            Self::HigherPriority { master, own } => {
                write!(f, "{} has priority {}, ours is {own}", master.address, master.priority)
            }
            Self::HigherAddress { master, own } => {
                write!(f, "{master} has our priority and a higher address than {own}")
            }
            Self::HandedOver { master } => write!(f, "handed over by evenkeel failover to {master}"),
            Self::NoSuccessor => {
                write!(f, "no other node took over at evenkeel failover: is another one healthy?")
            }
            Self::InterfaceMissing { interface } => write!(f, "there is no interface {interface}"),
            Self::InterfaceDown { interface } => write!(f, "interface {interface} is down"),
            Self::NoAddress { interface, family: Family::V4 } => write!(
                f,
                "interface {interface} has no IPv4 address to send from: give it one besides the virtual ones"
            ),
            Self::NoAddress { interface, family: Family::V6 } => write!(
                f,
                "interface {interface} has no IPv6 address to send from: it needs a link-local one besides the \
                 virtual ones"
            ),
            Self::Unusable { interface, why } => write!(f, "interface {interface} cannot be used: {why}"),
            Self::Tracking { why } => write!(f, "{why}"),
            Self::Stopped => write!(f, "stopped"),
        }
    }
}

fn listening(f: &mut fmt::Formatter<'_>, interfaces: &[String]) -> fmt::Result {
    let (noun, verb) = if interfaces.len() == 1 { ("interface", "is") } else { ("interfaces", "are") };
    write!(f, "{noun} {} {verb} up, listening for a master", interfaces.join(", "))
}
