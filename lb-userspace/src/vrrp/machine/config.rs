//! What a machine is told: how it is configured, and what happens.
#![deny(clippy::disallowed_methods)]

use std::net::IpAddr;
use std::time::Duration;

use super::super::reason::{Peer, Reason};
pub use super::super::wire::Family;
use crate::config::model::{Preempt, Priority, Version, Vrid};

/// Of a group of instances that have one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub priority: Priority,
    pub preempt: Preempt,
    /// One for each instance and family. The first decides between equal priorities, so every node should have the same
    /// virtual router there.
    pub channels: Vec<Channel>,
    /// Between bursts of announcements while nothing happens.
    pub announce_every: Option<Duration>,
}

/// One virtual router on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub interface: String,
    pub vrid: Vrid,
    pub family: Family,
    pub version: Version,
    /// Between advertisements of this node as master.
    pub interval: Duration,
}

impl Channel {
    /// Whether it keeps its timers across [`super::Machine::reconfigure`].
    pub(super) fn is_the_same_as(&self, other: &Self) -> bool {
        (&self.interface, self.vrid, self.family) == (&other.interface, other.vrid, other.family)
    }
}

/// `channel` is an index of [`Config::channels`]; one beyond them is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Interface {
        channel: usize,
        interface: Interface,
    },
    Advert {
        channel: usize,
        heard: Heard,
    },
    Tracking(Tracking),
    /// A master hands over and then stands back: no preemption until it was master again, or [`Event::Unyield`].
    Yield,
    Unyield,
    /// Orderly end, complete when [`super::Machine::stopped`] says so: nothing revives the machine after it.
    Stop,
}

/// Whether a channel's interface can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    Missing,
    Down,
    /// None of the channel's family to send from.
    NoAddress,
    Unusable(String),
    Up {
        primary: IpAddr,
    },
}

impl Interface {
    /// Why a group cannot work with it, if so.
    pub(super) fn obstacle(&self, channel: &Channel) -> Option<Reason> {
        let interface = channel.interface.clone();
        match self {
            Self::Missing => Some(Reason::InterfaceMissing { interface }),
            Self::Down => Some(Reason::InterfaceDown { interface }),
            Self::NoAddress => Some(Reason::NoAddress { interface, family: channel.family }),
            Self::Unusable(why) => Some(Reason::Unusable { interface, why: why.clone() }),
            Self::Up { .. } => None,
        }
    }
}

/// An advertisement that passed every check of its decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub from: Peer,
    pub interval: Duration,
}

/// What tracked things add up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracking {
    /// Added to the priority; no effect on the owner's.
    pub adjustment: i32,
    /// Why the group cannot serve, in words.
    pub fault: Option<String>,
}
