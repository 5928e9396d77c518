//! The state machine of RFC 9568 section 6.4, its errata and a fault state: no clock, no socket.
//!
//! Feed it events and the time, carry out its actions after each call, call it again when its timeout is due.
#![deny(clippy::disallowed_methods)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub use super::actions::Action;
use super::actions::Actions;
use super::backup::{Backup, down_interval};
pub use super::reason::{Peer, Reason};
use crate::config::model::Priority;
use crate::status::InstanceState;

/// Announcing once is not enough: the burst may meet a switch port that is not forwarding yet.
const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Bounds what a node that keeps claiming mastership can make this one send.
const MIN_ANNOUNCE_GAP: Duration = Duration::from_secs(1);
/// The shortest interval there is (RFC 9568 section 5.2.7).
const MIN_ADVERT_GAP: Duration = Duration::from_millis(10);

/// For another node that takes over to be late, and its advertisement to arrive.
const LEAVE_MARGIN: Duration = Duration::from_millis(200);
/// From a new master's first advertisement to its addresses being there and announced.
const LINGER: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// For reasons only.
    pub interface: String,
    pub priority: Priority,
    /// Between advertisements of this node as master.
    pub interval: Duration,
    pub preempt: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Interface(Interface),
    Advert(Heard),
    /// Orderly end, complete when [`Machine::stopped`] says so: nothing revives the machine after it.
    Stop,
}

/// Whether the interface can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    Missing,
    Down,
    /// No IPv4 address to send from.
    NoAddress,
    Unusable(String),
    Up {
        primary: Ipv4Addr,
    },
}

/// An advertisement that passed every check of [`super::wire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub from: Peer,
    pub interval: Duration,
}

/// Longest time at a stop that a master waits for another node: a backup takes over after its skew, which is shorter
/// than an interval for every priority (RFC 9568 section 6.1).
#[must_use]
pub fn leave_limit(interval: Duration) -> Duration {
    interval + LEAVE_MARGIN
}

#[derive(Debug)]
pub struct Machine {
    config: Config,
    state: State,
    reason: Reason,
    /// Address this node sends from, which decides between equal priorities.
    own: Option<Ipv4Addr>,
    actions: Actions,
}

#[derive(Debug)]
enum State {
    Init,
    Fault,
    Backup(Backup),
    Master(Master),
    /// Has told the others that it stops, and serves until one of them does.
    Leaving {
        until: Instant,
    },
    Stopped,
}

#[derive(Debug)]
struct Master {
    advertised_at: Instant,
    advertise_at: Instant,
    announced_at: Instant,
    announce_at: Option<Instant>,
    /// Until when the other master that was heard counts as present.
    rival_until: Option<Instant>,
}

impl Machine {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, state: State::Init, reason: Reason::Starting, own: None, actions: Actions::default() }
    }

    #[must_use]
    pub fn state(&self) -> InstanceState {
        match self.state {
            State::Init | State::Stopped => InstanceState::Init,
            State::Fault => InstanceState::Fault,
            State::Backup(_) => InstanceState::Backup,
            State::Master(_) | State::Leaving { .. } => InstanceState::Master,
        }
    }

    /// Whether a stop is complete.
    #[must_use]
    pub fn stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Whether, while this node is master, another one that claims to be was heard lately.
    #[must_use]
    pub fn second_master(&self, now: Instant) -> bool {
        match &self.state {
            State::Master(master) => master.rival_until.is_some_and(|until| now < until),
            State::Init | State::Fault | State::Backup(_) | State::Leaving { .. } | State::Stopped => false,
        }
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// When [`Self::handle_timeout`] is next due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Init | State::Fault | State::Stopped => None,
            State::Leaving { until } => Some(*until),
            State::Backup(backup) => Some(backup.deadline(&self.config)),
            State::Master(master) => {
                Some(master.announce_at.map_or(master.advertise_at, |at| at.min(master.advertise_at)))
            }
        }
    }

    /// Does what is due; nothing if nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Init | State::Fault | State::Stopped => {}
            State::Leaving { until } => {
                if now >= *until {
                    self.leave();
                }
            }
            State::Backup(backup) => {
                if now >= backup.deadline(&self.config) {
                    let reason = backup.takeover_reason(&self.config, now);
                    self.become_master(reason, now);
                }
            }
            State::Master(master) => {
                if now >= master.advertise_at {
                    master.advertised_at = now;
                    // From deadline to deadline, so that a late wake-up doesn't add up; not to make up for lost ones.
                    master.advertise_at += self.config.interval;
                    if master.advertise_at <= now {
                        master.advertise_at = now + self.config.interval;
                    }
                    self.actions.push(Action::SendAdvert { priority: self.config.priority.as_u8() });
                }
                if master.announce_at.is_some_and(|at| now >= at) {
                    master.announce_at = None;
                    master.announced_at = now;
                    self.actions.push(Action::Announce);
                }
            }
        }
    }

    pub fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Interface(interface) => self.interface_changed(interface, now),
            Event::Advert(heard) => self.heard(heard, now),
            Event::Stop => self.stop(now),
        }
    }

    /// Changes the configuration in place: an advertisement that is due stays due when it was, a running down timer
    /// keeps its start.
    pub fn reconfigure(&mut self, config: Config, now: Instant) {
        let old = std::mem::replace(&mut self.config, config);
        match &mut self.state {
            State::Init | State::Fault | State::Leaving { .. } | State::Stopped => {}
            State::Backup(_) => {
                if self.config.priority == Priority::OWNER {
                    self.become_master(Reason::Owner, now);
                }
            }
            State::Master(master) => {
                if self.config.interval != old.interval {
                    // Backups still count by the old interval: a longer one starts after the advert that tells it.
                    let shorter = master.advertised_at + self.config.interval;
                    master.advertise_at = master.advertise_at.min(shorter);
                }
            }
        }
    }

    fn interface_changed(&mut self, change: Interface, now: Instant) {
        let interface = self.config.interface.clone();
        match change {
            Interface::Missing => self.fault(Reason::InterfaceMissing { interface }),
            Interface::Down => self.fault(Reason::InterfaceDown { interface }),
            Interface::NoAddress => self.fault(Reason::NoAddress { interface }),
            Interface::Unusable(why) => self.fault(Reason::Unusable { interface, why }),
            Interface::Up { primary } => {
                self.own = Some(primary);
                match self.state {
                    State::Init | State::Fault => self.start(now),
                    State::Backup(_) | State::Master(_) | State::Leaving { .. } | State::Stopped => {}
                }
            }
        }
    }

    /// RFC 9568 section 6.4.1.
    fn start(&mut self, now: Instant) {
        if self.config.priority == Priority::OWNER {
            self.become_master(Reason::Owner, now);
            return;
        }
        let backup = Backup::new(None, now);
        let reason = Reason::Listening { interface: self.config.interface.clone() };
        self.change(State::Backup(backup), reason);
    }

    fn fault(&mut self, reason: Reason) {
        match self.state {
            State::Stopped => {}
            State::Leaving { .. } => self.leave(),
            State::Fault => self.reason = reason,
            State::Init | State::Backup(_) => self.change(State::Fault, reason),
            State::Master(_) => {
                self.actions.push(Action::ReleaseAddresses);
                self.change(State::Fault, reason);
            }
        }
    }

    fn stop(&mut self, now: Instant) {
        match self.state {
            State::Leaving { .. } | State::Stopped => {}
            State::Init | State::Fault | State::Backup(_) => self.change(State::Stopped, Reason::Stopped),
            State::Master(_) => {
                // RFC 9568 section 6.4.3 lets go at once, and nobody serves for the skew of the next master.
                self.actions.push(Action::SendAdvert { priority: 0 });
                let until = now + leave_limit(self.config.interval);
                self.change(State::Leaving { until }, Reason::Stopped);
            }
        }
    }

    fn leave(&mut self) {
        self.actions.push(Action::ReleaseAddresses);
        self.change(State::Stopped, Reason::Stopped);
    }

    fn heard(&mut self, heard: Heard, now: Instant) {
        match &mut self.state {
            // A packet that waited in the socket across a stop or a fault.
            State::Init | State::Fault | State::Stopped => {}
            State::Leaving { until } => {
                if heard.from.priority > 0 {
                    *until = (*until).min(now + LINGER);
                }
            }
            State::Backup(backup) => backup.heard(heard, &self.config, now),
            State::Master(_) if heard.from.priority == 0 => self.assert_mastership(now),
            State::Master(_) => match self.loses_to(heard.from) {
                Some(reason) => self.step_back(heard, reason, now),
                None => self.keep_mastership(heard, now),
            },
        }
    }

    /// RFC 9568 section 6.4.3: a higher priority wins, between equal ones the higher address.
    fn loses_to(&self, peer: Peer) -> Option<Reason> {
        let own = self.config.priority.as_u8();
        if peer.priority > own {
            return Some(Reason::HigherPriority { master: peer, own });
        }
        let own_address = self.own.filter(|&address| peer.priority == own && peer.address > address)?;
        Some(Reason::HigherAddress { master: peer, own: own_address })
    }

    fn step_back(&mut self, heard: Heard, reason: Reason, now: Instant) {
        let backup = Backup::new(Some(heard), now);
        self.actions.push(Action::ReleaseAddresses);
        self.change(State::Backup(backup), reason);
    }

    fn keep_mastership(&mut self, heard: Heard, now: Instant) {
        self.assert_mastership(now);
        let State::Master(master) = &mut self.state else { return };
        if master.rival_until.is_none_or(|until| now >= until) {
            self.actions.push(Action::SecondMaster(heard.from));
        }
        master.rival_until = Some(now + down_interval(heard.from.priority, heard.interval));
        // The other one has announced the addresses as its own: neighbours must learn better.
        if now >= master.announced_at + MIN_ANNOUNCE_GAP {
            master.announced_at = now;
            self.actions.push(Action::Announce);
        }
        master.announce_at.get_or_insert(now + ANNOUNCE_AGAIN_AFTER);
    }

    /// Tells a node that does not know who is master, without disturbing the rhythm of advertisements.
    fn assert_mastership(&mut self, now: Instant) {
        let State::Master(master) = &mut self.state else { return };
        if now >= master.advertised_at + MIN_ADVERT_GAP {
            master.advertised_at = now;
            self.actions.push(Action::SendAdvert { priority: self.config.priority.as_u8() });
        }
    }

    fn become_master(&mut self, reason: Reason, now: Instant) {
        self.actions.push(Action::SendAdvert { priority: self.config.priority.as_u8() });
        self.actions.push(Action::TakeAddresses);
        self.actions.push(Action::Announce);
        let master = Master {
            advertised_at: now,
            advertise_at: now + self.config.interval,
            announced_at: now,
            announce_at: Some(now + ANNOUNCE_AGAIN_AFTER),
            rival_until: None,
        };
        self.change(State::Master(master), reason);
    }

    fn change(&mut self, state: State, reason: Reason) {
        let from = self.state();
        self.state = state;
        self.reason = reason.clone();
        let to = self.state();
        if from != to {
            self.actions.push(Action::Transition { from, to, reason });
        }
    }
}
