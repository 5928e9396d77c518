//! Who is master: interfaces, tracking and advertisements.
#![deny(clippy::disallowed_methods)]

use std::time::Instant;

use super::super::backup::{Backup, Watch};
use super::hand_over::LINGER;
use super::{
    Action, Heard, Interface, Machine, Master, Peer, Priority, Reason, State, Tracking, down_interval,
};

/// Equal priorities are decided on this channel only: two channels could decide differently, and no node would ever win.
const DECIDING_CHANNEL: usize = 0;

impl Machine {
    pub(super) fn interface_changed(&mut self, channel: usize, interface: Interface, now: Instant) {
        let Some(end) = self.ends.get_mut(channel) else { return };
        let is_up = matches!(interface, Interface::Up { .. });
        let was = end.interface.replace(interface);
        self.look_around(now);
        // Of a channel that was added to a master: nothing could be sent on it until now.
        if was.is_none() && is_up {
            self.assert_mastership(channel, now);
        }
    }

    pub(super) fn tracking_changed(&mut self, tracking: Tracking, now: Instant) {
        self.tracking = tracking;
        let standing = self.standing();
        if let State::Backup(backup) = &mut self.state {
            backup.reconsider(standing);
        }
        self.look_around(now);
    }

    /// Whether the group can work, as of now.
    pub(super) fn look_around(&mut self, now: Instant) {
        if let Some(reason) = self.obstacle() {
            self.fault(reason);
            return;
        }
        let all_up = self.ends.iter().all(|end| end.interface.is_some());
        match self.state {
            State::Init | State::Fault if all_up => self.start(now),
            State::Init
            | State::Fault
            | State::Backup(_)
            | State::Master(_)
            | State::Leaving(_)
            | State::Stopped => {}
        }
    }

    /// The first there is; an interface that was not looked at yet is none.
    fn obstacle(&self) -> Option<Reason> {
        let mut looked_at = self.ends.iter().zip(&self.config.channels);
        let of_interfaces = looked_at.find_map(|(end, channel)| end.interface.as_ref()?.obstacle(channel));
        let of_tracking = || Some(Reason::Tracking { why: self.tracking.fault.clone()? });
        of_interfaces.or_else(of_tracking)
    }

    /// RFC 9568 section 6.4.1.
    fn start(&mut self, now: Instant) {
        if self.config.priority == Priority::OWNER && !self.yielded {
            self.become_master(Reason::Owner, now);
            return;
        }
        let watches = self.config.channels.iter().map(|_| Watch::new(None, now)).collect();
        let mut interfaces: Vec<_> =
            self.config.channels.iter().map(|channel| channel.interface.clone()).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        self.change(State::Backup(Backup::new(watches)), Reason::Listening { interfaces });
    }

    fn fault(&mut self, reason: Reason) {
        match &self.state {
            State::Stopped => {}
            State::Fault => self.reason = reason,
            State::Init | State::Backup(_) => self.change(State::Fault, reason),
            State::Leaving(leaving) if leaving.is_final() => self.end(),
            State::Leaving(_) => {
                self.actions.push(Action::ReleaseAddresses);
                self.change(State::Fault, reason);
            }
            State::Master(_) => {
                for channel in 0..self.ends.len() {
                    if self.ends[channel].address().is_some() {
                        self.actions.push(Action::SendAdvert { channel, priority: 0 });
                    }
                }
                self.actions.push(Action::ReleaseAddresses);
                self.change(State::Fault, reason);
            }
        }
    }

    pub(super) fn heard(&mut self, channel: usize, heard: Heard, now: Instant) {
        let standing = self.standing();
        let Some(end) = self.ends.get_mut(channel) else { return };
        end.nodes.heard(heard, now);
        match &mut self.state {
            // A packet that waited in the socket across a stop or a fault.
            State::Init | State::Fault | State::Stopped => {}
            State::Leaving(leaving) => leaving.heard(channel, heard, now),
            State::Backup(backup) => backup.heard(channel, heard, standing, now),
            State::Master(_) if heard.from.priority == 0 => self.assert_mastership(channel, now),
            State::Master(_) => match self.loses_to(channel, heard.from) {
                Some(reason) => self.step_back(channel, heard, reason, now),
                None => self.keep_mastership(channel, heard, now),
            },
        }
    }

    /// RFC 9568 section 6.4.3: a higher priority wins, between equal ones the higher address.
    fn loses_to(&self, channel: usize, peer: Peer) -> Option<Reason> {
        let own = self.effective_priority().as_u8();
        if peer.priority > own {
            return Some(Reason::HigherPriority { master: peer, own });
        }
        if peer.priority < own || channel != DECIDING_CHANNEL {
            return None;
        }
        let own = self.ends[channel].address().filter(|&address| peer.address > address)?;
        Some(Reason::HigherAddress { master: peer, own })
    }

    /// The addresses stay until the other one has had the time to take them: a moment with two is better than one with none.
    fn step_back(&mut self, channel: usize, heard: Heard, reason: Reason, now: Instant) {
        let shortest = self.config.channels.iter().map(|channel| channel.interval).min().unwrap_or_default();
        self.release_at = Some(now + LINGER.min(shortest / 2));
        // The other one may never have heard of this master, whose addresses hosts may know: it announces its own then.
        let priority = self.effective_priority().as_u8();
        self.actions.push(Action::SendAdvert { channel, priority });
        let backup = self.backup_to(Some(channel), heard, now);
        self.change(State::Backup(backup), reason);
    }

    /// A backup that follows the master heard on `channel`.
    pub(super) fn backup_to(&self, channel: Option<usize>, master: Heard, now: Instant) -> Backup {
        let watch = |at| Watch::new((channel == Some(at)).then_some(master), now);
        Backup::new((0..self.config.channels.len()).map(watch).collect())
    }

    fn keep_mastership(&mut self, channel: usize, heard: Heard, now: Instant) {
        self.assert_mastership(channel, now);
        let State::Master(master) = &mut self.state else { return };
        let version = self.config.channels[channel].version;
        let patience = down_interval(version, heard.from.priority, heard.interval);
        if !master.has_just_preempted(now) && master.rival_heard(heard.from, patience, now) {
            self.actions.push(Action::SecondMaster(heard.from));
        }
        // The other one has announced the addresses as its own.
        if master.announce(now) {
            self.actions.push(Action::Announce);
        }
    }

    /// Tells a node that does not know who is master, without disturbing the rhythm of advertisements.
    fn assert_mastership(&mut self, channel: usize, now: Instant) {
        let priority = self.effective_priority().as_u8();
        let State::Master(master) = &mut self.state else { return };
        if master.may_assert(channel, now) {
            self.actions.push(Action::SendAdvert { channel, priority });
        }
    }

    pub(super) fn become_master(&mut self, reason: Reason, now: Instant) {
        self.yielded = false;
        self.release_at = None;
        self.send_on_all(self.effective_priority().as_u8());
        self.actions.push(Action::TakeAddresses);
        self.actions.push(Action::Announce);
        let mut master = Master::new(&self.config.channels, now);
        if let Reason::Preempted { .. } = reason {
            let longest = self.config.channels.iter().map(|channel| channel.interval).max();
            master.expect_predecessor(now + longest.unwrap_or_default());
        }
        self.change(State::Master(master), reason);
    }
}
