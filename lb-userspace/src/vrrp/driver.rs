//! Carries a machine's actions out on the wire, and feeds it packets, timers, interfaces, what is tracked and the daemon's
//! commands.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::channel::{Channel, Settings};
use super::handle::{Command, Event};
use super::keeper::{Registration, Released, Seen, SeenChannel, Usable, Wanted};
use super::log::log;
use super::machine::{self, Action, Heard, Interface, Machine, Peer, Tracking};
use super::report::Reports;
use super::socket::Exit;
use super::wire::{self, Checksum, Discard};
use crate::config::model::{Instance, Preempt, Priority};
use crate::status::InstanceState;
use crate::track::TrackState;

/// Packets in a row before timers get their turn: a flood must not delay an advertisement.
const BATCH: usize = 32;
/// Packets before a backup's timer counts: more than the sockets hold, so that a master buried in a flood is heard.
const BACKLOG: usize = 4096;
const PUBLISH_AGAIN_AFTER: Duration = Duration::from_millis(5);
const REMARK_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A socket that could not be opened is tried again.
const OPEN_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// With nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);

/// What the daemon says.
pub(super) struct Inbox {
    pub(super) group: watch::Receiver<Vec<Instance>>,
    pub(super) tracking: watch::Receiver<TrackState>,
    pub(super) commands: mpsc::Receiver<Command>,
}

pub(super) struct Driver {
    group: Vec<Instance>,
    machine: Machine,
    channels: Vec<Channel>,
    reports: Reports,
    inbox: Inbox,
    keeper: Registration,
    events: mpsc::Sender<Event>,
    /// Some socket could not be opened.
    open_at: Option<Instant>,
    /// When a reason to ignore packets was last remarked.
    discards_remarked: BTreeMap<Discard, Instant>,
    /// When it was last remarked that transitions are not told.
    loss_remarked: Option<Instant>,
    send_failing: bool,
    stopping: bool,
    keeper_gone: bool,
    trackers_gone: bool,
}

enum Turn {
    Configured(Result<(), watch::error::RecvError>),
    Commanded(Option<Command>),
    Tracked(Result<(), watch::error::RecvError>),
    Seen(Result<(), watch::error::RecvError>),
    Timer,
    Packets,
}

impl Driver {
    pub(super) fn new(
        group: Vec<Instance>,
        reports: Reports,
        inbox: Inbox,
        keeper: Registration,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let channels = Settings::of(&group).into_iter().map(Channel::new).collect();
        Self {
            machine: Machine::new(machine_config(&group)),
            group,
            channels,
            reports,
            inbox,
            keeper,
            events,
            open_at: None,
            discards_remarked: BTreeMap::new(),
            loss_remarked: None,
            send_failing: false,
            stopping: false,
            keeper_gone: false,
            trackers_gone: false,
        }
    }

    /// Runs until the daemon drops its handle and the next master had its time to take over; by ending has the
    /// addresses released, whatever the cause.
    pub(super) async fn run(mut self) -> Released {
        self.track();
        loop {
            let published = self.settle();
            if self.machine.stopped() {
                // Its other ends are dropped here: that releases everything.
                return self.keeper.released;
            }
            let turn = self.next_turn(published).await;
            self.take(turn);
        }
    }

    async fn next_turn(&mut self, published: bool) -> Turn {
        let now = Instant::now();
        let retry = (!published).then(|| now + PUBLISH_AGAIN_AFTER);
        let due = [self.machine.poll_timeout(), retry, self.open_at].into_iter().flatten().min();
        let channels = &self.channels;
        tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or(now + IDLE).into()) => Turn::Timer,
            changed = self.inbox.group.changed(), if !self.stopping => Turn::Configured(changed),
            command = self.inbox.commands.recv(), if !self.stopping => Turn::Commanded(command),
            changed = self.inbox.tracking.changed(), if !self.trackers_gone => Turn::Tracked(changed),
            changed = self.keeper.seen.changed(), if !self.keeper_gone => Turn::Seen(changed),
            () = readable(channels) => Turn::Packets,
        }
    }

    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Configured(Ok(())) => self.reconfigure(),
            Turn::Configured(Err(_)) | Turn::Commanded(None) => {
                self.stopping = true;
                self.handle(machine::Event::Stop);
            }
            Turn::Commanded(Some(Command::Yield)) => self.handle(machine::Event::Yield),
            Turn::Commanded(Some(Command::Unyield)) => self.handle(machine::Event::Unyield),
            Turn::Tracked(Ok(())) => self.track(),
            Turn::Tracked(Err(_)) => self.trackers_gone = true,
            Turn::Seen(Ok(())) => self.look_at_interfaces(),
            Turn::Seen(Err(_)) => {
                self.keeper_gone = true;
                for channel in 0..self.channels.len() {
                    let why = "the thread that keeps its addresses has ended".to_owned();
                    let interface = Interface::Unusable(why);
                    self.handle(machine::Event::Interface { channel, interface });
                }
            }
            Turn::Timer => {
                if self.open_at.is_some_and(|at| Instant::now() >= at) {
                    self.look_at_interfaces();
                }
                if self.machine.state() == InstanceState::Backup {
                    // After a stall, what was heard meanwhile counts before the timer that ran out meanwhile.
                    self.receive(BACKLOG);
                }
                self.machine.handle_timeout(Instant::now());
            }
            Turn::Packets => self.receive(BATCH),
        }
    }

    fn handle(&mut self, event: machine::Event) {
        self.machine.handle_event(event, Instant::now());
    }

    /// Carries out what the machine asks for and publishes what came of it.
    fn settle(&mut self) -> bool {
        while let Some(action) = self.machine.poll_action() {
            self.carry_out(action);
        }
        self.reports.publish(&self.machine, Instant::now())
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::SendAdvert { channel, priority } => self.send(channel, priority),
            Action::TakeAddresses => self.want(|wanted| wanted.hold = true),
            Action::ReleaseAddresses => self.want(|wanted| wanted.hold = false),
            Action::Announce => self.want(|wanted| wanted.bursts += 1),
            Action::SecondMaster(peer) => {
                self.reports.second_master_began();
                self.log_problem(format!("a second master: {peer} claims to be master too"));
                for (member, instance) in self.names().into_iter().enumerate() {
                    self.tell(member, Event::SecondMaster { instance, peer });
                }
            }
            Action::Transition { from, to, reason } => {
                self.reports.entered(to);
                self.log_change(format!("{from:?} to {to:?}: {reason}"));
                let priority = self.machine.effective_priority().as_u8();
                for (member, instance) in self.names().into_iter().enumerate() {
                    let reason = reason.clone();
                    self.tell(member, Event::Transition { instance, from, to, priority, reason });
                }
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.group.iter().map(|instance| instance.name.clone()).collect()
    }

    /// In the log, a group has the name of its members.
    fn log_change(&self, change: String) {
        let instance = self.names().join("+");
        log(move || tracing::info!(instance, "{change}"));
    }

    fn log_problem(&self, problem: String) {
        let instance = self.names().join("+");
        log(move || tracing::warn!(instance, "{problem}"));
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        self.keeper.wanted.send_modify(change);
    }

    /// The daemon may be busy or gone, and nobody waits for it; the snapshot tells what is, but hooks hear by this only.
    fn tell(&mut self, member: usize, event: Event) {
        let Err(TrySendError::Full(lost)) = self.events.try_send(event) else { return };
        if !matches!(lost, Event::Transition { .. }) {
            return;
        }
        self.reports.lost_transition(member);
        let now = Instant::now();
        if self.loss_remarked.is_none_or(|at| now >= at + REMARK_AGAIN_AFTER) {
            self.loss_remarked = Some(now);
            self.log_problem(
                "the daemon is too busy to hear of every transition: hooks miss some".to_owned(),
            );
        }
    }

    fn send(&mut self, channel: usize, priority: u8) {
        // The last word of one that gives way must not lead a switch back to it.
        let holding = self.keeper.wanted.borrow().hold && self.machine.state() == InstanceState::Master;
        let Some(channel) = self.channels.get_mut(channel) else { return };
        match channel.send(priority, holding) {
            Ok(sent) => {
                self.reports.sent(channel.settings().member, sent);
                self.send_failing = false;
            }
            Err(error) => {
                let interface = channel.settings().interface.clone();
                if !std::mem::replace(&mut self.send_failing, true) {
                    self.log_problem(format!("cannot send on {interface}: {error}"));
                }
            }
        }
    }

    fn receive(&mut self, limit: usize) {
        let mut buffer = [0; wire::MAX_PACKET + 1];
        for index in 0..self.channels.len() {
            for _ in 0..limit {
                if self.receive_one(index, &mut buffer).is_err() {
                    // None is there, or the interface is in a state that the keeper sees too.
                    break;
                }
            }
        }
    }

    fn receive_one(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let channel = &mut self.channels[index];
        let member = channel.settings().member;
        let taken = match channel.receive(buffer)? {
            Ok(taken) => taken,
            Err(reason) => {
                self.reports.discarded(member, reason);
                self.remark_discarded(index, reason);
                return Ok(());
            }
        };
        let received = taken.received;
        let from = Peer { address: received.source, priority: received.advert.priority };
        self.reports.received(member, received.checksum == Some(Checksum::PseudoHeader));
        for remark in taken.remarks {
            self.log_problem(remark);
        }
        let heard = Heard { from, interval: received.advert.interval };
        self.handle(machine::Event::Advert { channel: index, heard });
        Ok(())
    }

    /// Another node of this virtual router that is not understood may be a second master.
    fn remark_discarded(&mut self, channel: usize, reason: Discard) {
        let now = Instant::now();
        if self.discards_remarked.get(&reason).is_some_and(|at| now < *at + REMARK_AGAIN_AFTER) {
            return;
        }
        self.discards_remarked.insert(reason, now);
        let settings = self.channels[channel].settings();
        let (interface, vrid, reason) = (settings.interface.clone(), settings.vrid.as_u8(), reason.as_str());
        self.log_problem(format!(
            "packets of VRID {vrid} on {interface} are ignored: {reason}; if they are another node's, both may become master"
        ));
    }

    fn track(&mut self) {
        let state = self.inbox.tracking.borrow_and_update().clone();
        self.handle(machine::Event::Tracking(Tracking { adjustment: state.adjustment, fault: state.fault }));
        self.reports.tracked(&state.subjects);
    }

    fn reconfigure(&mut self) {
        self.group = self.inbox.group.borrow_and_update().clone();
        let mut old = std::mem::take(&mut self.channels);
        for settings in Settings::of(&self.group) {
            let mut channel = Channel::new(settings);
            channel.follow(&mut old);
            self.channels.push(channel);
        }
        self.machine.reconfigure(machine_config(&self.group), Instant::now());
        self.reports.reconfigured(&self.group);
        let wanted = Wanted::of(&self.group);
        self.keeper.wanted.send_if_modified(|current| current.reconfigure(wanted));
        self.look_at_interfaces();
    }

    /// Tells the machine of every channel's interface, and binds the sockets to them.
    fn look_at_interfaces(&mut self) {
        let seen = self.keeper.seen.borrow_and_update().clone();
        self.open_at = None;
        for index in 0..self.channels.len() {
            // What is not seen yet will be.
            if let Some(interface) = seen.as_ref().and_then(|seen| self.look_at(index, seen)) {
                self.handle(machine::Event::Interface { channel: index, interface });
            }
        }
    }

    fn look_at(&mut self, index: usize, seen: &Seen) -> Option<Interface> {
        let channel = &mut self.channels[index];
        let settings = channel.settings();
        let is_this = |seen: &&SeenChannel| {
            (&seen.on, seen.vrid, seen.family) == (&settings.interface, settings.vrid, settings.family)
        };
        let seen = seen.channels.iter().find(is_this)?;
        let Some(place) = seen.place else {
            channel.close();
            return Some(Interface::Missing);
        };
        let primary = match seen.interface {
            Usable::Missing => return Some(Interface::Missing),
            Usable::Down => return Some(Interface::Down),
            Usable::NoAddress => return Some(Interface::NoAddress),
            Usable::Up { primary } => settings.source().unwrap_or(primary),
        };
        let mac = place.virtual_mac.unwrap_or(place.mac);
        let exit = Exit { index: place.index, mac, own_mac: place.mac, mtu: place.mtu as usize, primary };
        match channel.open(exit) {
            Ok(()) => Some(Interface::Up { primary }),
            Err(error) => {
                self.open_at = Some(Instant::now() + OPEN_AGAIN_AFTER);
                Some(Interface::Unusable(format!("cannot open a VRRP socket: {error}")))
            }
        }
    }
}

/// Ready when a packet may be there; never, without a socket.
async fn readable(channels: &[Channel]) {
    poll_fn(|context| {
        let ready = channels.iter().filter(|channel| channel.poll_readable(context).is_ready()).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn machine_config(group: &[Instance]) -> machine::Config {
    let channels = Settings::of(group).into_iter().map(|settings| machine::Channel {
        vrid: settings.vrid,
        interface: settings.interface,
        family: settings.family,
        version: settings.version,
        interval: settings.interval,
    });
    machine::Config {
        // All members have the same.
        priority: group.first().map_or(Priority::DEFAULT, |first| first.priority),
        preempt: group.first().map_or(Preempt::Never, |first| first.preempt),
        channels: channels.collect(),
        announce_every: group.iter().filter_map(|instance| instance.announce_every).min(),
    }
}
