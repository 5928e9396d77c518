//! The state machine of RFC 9568 section 6.4, its errata and a fault state: no clock, no socket.
//!
//! One machine for a group: it has one state and speaks on any number of channels, one for each instance and family. What
//! belongs together moves together: a better master on any channel holds a backup back, silence counts when all are
//! silent, and an interface that fails takes the whole group out.
//!
//! Feed it events and the time, carry out its actions after each call, call it again when its timeout is due.
#![deny(clippy::disallowed_methods)]

mod config;
mod election;
mod hand_over;
mod master;
mod nodes;
mod outlook;
mod reconfigure;
mod timers;

use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use self::config::{Channel, Config, Event, Family, Heard, Interface, Tracking};
use self::hand_over::Leaving;
use self::master::Master;
pub use self::nodes::Node;
use self::nodes::Nodes;
pub use self::outlook::Outlook;
pub use self::timers::leave_limit;
pub(super) use self::timers::{down_interval, skew};
pub use super::actions::Action;
use super::actions::Actions;
use super::backup::Backup;
pub use super::reason::{Peer, Reason};
use crate::config::model::{Preempt, Priority};
use crate::status::InstanceState;

#[derive(Debug)]
pub struct Machine {
    config: Config,
    /// One for each channel.
    ends: Vec<End>,
    tracking: Tracking,
    /// Has handed over by command and was not master since: preempts nobody.
    yielded: bool,
    state: State,
    /// When a master that stepped back lets go of its addresses.
    release_at: Option<Instant>,
    /// When it asked, at the end of the last call, to be called for the sake of its state: not before that call.
    told: Option<Instant>,
    reason: Reason,
    actions: Actions,
}

/// This node's end of a channel.
#[derive(Debug, Clone, Default)]
struct End {
    /// `None` until it is looked at.
    interface: Option<Interface>,
    nodes: Nodes,
}

#[derive(Debug)]
enum State {
    Init,
    Fault,
    Backup(Backup),
    Master(Master),
    /// Has told the others that it hands over, and serves until one of them does.
    Leaving(Leaving),
    Stopped,
}

/// What a node's claim to mastership rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) priority: u8,
    pub(super) preempt: Preempt,
}

impl End {
    /// What it sends from, which decides between equal priorities.
    fn address(&self) -> Option<IpAddr> {
        match self.interface {
            Some(Interface::Up { primary }) => Some(primary),
            Some(Interface::Missing | Interface::Down | Interface::NoAddress | Interface::Unusable(_))
            | None => None,
        }
    }
}

impl Machine {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            ends: vec![End::default(); config.channels.len()],
            actions: Actions::new(config.channels.len()),
            config,
            tracking: Tracking::default(),
            yielded: false,
            state: State::Init,
            release_at: None,
            told: None,
            reason: Reason::Starting,
        }
    }

    #[must_use]
    pub fn state(&self) -> InstanceState {
        match self.state {
            State::Init | State::Stopped => InstanceState::Init,
            State::Fault => InstanceState::Fault,
            State::Backup(_) => InstanceState::Backup,
            State::Master(_) | State::Leaving(_) => InstanceState::Master,
        }
    }

    /// Whether a stop is complete.
    #[must_use]
    pub fn stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// Whether it is master only until another node is, or it gives up waiting for one.
    #[must_use]
    pub fn handing_over(&self) -> bool {
        matches!(self.state, State::Leaving(_))
    }

    /// Whether, after [`Event::Yield`], it preempts nobody.
    #[must_use]
    pub fn yielded(&self) -> bool {
        self.yielded
    }

    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The configured one and what tracking adds, 1 to 254; of the owner always 255.
    #[must_use]
    pub fn effective_priority(&self) -> Priority {
        let base = self.config.priority;
        if base == Priority::OWNER {
            return base;
        }
        let adjusted = i64::from(base.as_u8()) + i64::from(self.tracking.adjustment);
        let adjusted = u8::try_from(adjusted.clamp(1, 254)).ok().and_then(Priority::new);
        adjusted.expect("1 to 254 is a priority")
    }

    /// Whether, while this node is master, another one that claims to be was heard lately.
    #[must_use]
    pub fn second_master(&self, now: Instant) -> bool {
        self.as_master().is_some_and(|master| master.rival(now).is_some())
    }

    /// The second master that goes on although this one's advertisements should have made it give way: it probably
    /// does not hear them.
    #[must_use]
    pub fn unheard_by(&self, now: Instant) -> Option<Peer> {
        self.as_master()?.deaf_rival(now)
    }

    /// The other nodes of a channel that were heard last, bounded, in no order. Kept in every state.
    #[must_use]
    pub fn nodes(&self, channel: usize) -> &[Node] {
        self.ends.get(channel).map_or(&[], |end| end.nodes.as_slice())
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// When [`Self::handle_timeout`] is next due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.state_due(), self.release_at].into_iter().flatten().min()
    }

    #[cfg(test)]
    pub(super) fn releases_at(&self) -> Option<Instant> {
        self.release_at
    }

    fn state_due(&self) -> Option<Instant> {
        match &self.state {
            State::Init | State::Fault | State::Stopped => None,
            State::Leaving(leaving) => Some(leaving.next_due()),
            State::Backup(backup) => backup.due(&self.config.channels, self.standing()),
            State::Master(master) => master.next_due(self.config.announce_every),
        }
    }

    /// Does what is due; nothing if nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.call(now, |machine| {
            if machine.release_at.is_some_and(|at| now >= at) {
                machine.let_go();
            }
            if machine.state_due().is_some_and(|due| now >= due) {
                machine.do_due(now);
            }
        });
    }

    fn do_due(&mut self, now: Instant) {
        let standing = self.standing();
        match &mut self.state {
            State::Init | State::Fault | State::Stopped => {}
            State::Leaving(_) => self.leave(now),
            State::Backup(backup) => {
                let reason = backup.takeover_reason(&self.config.channels, standing, now);
                self.become_master(reason, now);
            }
            State::Master(master) => {
                for channel in master.take_due(&self.config.channels, now) {
                    self.actions.push(Action::SendAdvert { channel, priority: standing.priority });
                }
                if master.take_announcement(self.config.announce_every, now) {
                    self.actions.push(Action::Announce);
                }
            }
        }
    }

    pub fn handle_event(&mut self, event: Event, now: Instant) {
        self.call(now, |machine| match event {
            Event::Interface { channel, interface } => machine.interface_changed(channel, interface, now),
            Event::Advert { channel, heard } => machine.heard(channel, heard, now),
            Event::Tracking(tracking) => machine.tracking_changed(tracking, now),
            Event::Yield => machine.yield_mastership(now),
            Event::Unyield => machine.unyield(),
            Event::Stop => machine.stop(now),
        });
    }

    /// Whether it comes late is judged before it changes what is due, which may then be in the past though nobody slept.
    fn call(&mut self, now: Instant, what: impl FnOnce(&mut Self)) {
        let standing = self.standing();
        if let (State::Backup(backup), Some(told)) = (&mut self.state, self.told) {
            backup.woken(&self.config.channels, standing, told, now);
        }
        what(self);
        self.told = self.state_due().map(|due| due.max(now));
    }

    fn standing(&self) -> Standing {
        let preempt = if self.yielded {
            Preempt::Never
        } else if self.config.priority == Priority::OWNER {
            // RFC 9568 section 6.1: whatever Preempt_Mode says.
            Preempt::After(Duration::ZERO)
        } else {
            self.config.preempt
        };
        Standing { priority: self.effective_priority().as_u8(), preempt }
    }

    fn as_master(&self) -> Option<&Master> {
        match &self.state {
            State::Master(master) => Some(master),
            State::Init | State::Fault | State::Backup(_) | State::Leaving(_) | State::Stopped => None,
        }
    }

    fn send_on_all(&mut self, priority: u8) {
        for channel in 0..self.config.channels.len() {
            self.actions.push(Action::SendAdvert { channel, priority });
        }
    }

    fn let_go(&mut self) {
        self.release_at = None;
        self.actions.push(Action::ReleaseAddresses);
    }

    fn change(&mut self, state: State, reason: Reason) {
        let from = self.state();
        self.state = state;
        self.reason = reason.clone();
        let to = self.state();
        if self.release_at.is_some() && !matches!(self.state, State::Backup(_)) {
            self.let_go();
        }
        if from != to {
            self.actions.push(Action::Transition { from, to, reason });
        }
    }
}
