//! Carries a machine's actions out on the wire, and feeds it packets, timers, the interface and the daemon's commands.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::handle::Event;
use super::keeper::{Family, Seen, Usable, Wanted};
use super::log::log;
use super::machine::{self, Action, Heard, Interface, Machine, Peer};
use super::report::Report;
use super::socket::AdvertSocket;
use super::wire::{self, Advert, Checksum, Expected};
use crate::config::model;
use crate::status::InstanceState;

/// Packets in a row before timers get their turn: a flood must not delay an advertisement.
const BATCH: usize = 32;
/// Packets before a backup's timer counts: more than the socket holds, so that a master buried in a flood is heard.
const BACKLOG: usize = 4096;
const PUBLISH_AGAIN_AFTER: Duration = Duration::from_millis(5);
/// With nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Driver {
    config: model::Instance,
    machine: Machine,
    report: Report,
    configured: watch::Receiver<model::Instance>,
    seen: watch::Receiver<Option<Seen>>,
    wanted: watch::Sender<Wanted>,
    events: mpsc::Sender<Event>,
    socket: Option<(u32, AdvertSocket)>,
    primary: Option<Ipv4Addr>,
    /// As the other nodes compute it: keepalived up to 2.3 and FRR take no other form than theirs.
    checksum: Checksum,
    logged_checksum: bool,
    /// The other node's interval that was last logged as different from ours.
    logged_interval: Option<Duration>,
    send_failing: bool,
    stopping: bool,
    keeper_gone: bool,
}

enum Turn {
    Configured(Result<(), watch::error::RecvError>),
    Interface(Result<(), watch::error::RecvError>),
    Timer,
    Packets,
}

impl Driver {
    pub(super) fn new(
        config: model::Instance,
        report: Report,
        configured: watch::Receiver<model::Instance>,
        seen: watch::Receiver<Option<Seen>>,
        wanted: watch::Sender<Wanted>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            machine: Machine::new(machine_config(&config)),
            config,
            report,
            configured,
            seen,
            wanted,
            events,
            socket: None,
            primary: None,
            checksum: Checksum::default(),
            logged_checksum: false,
            logged_interval: None,
            send_failing: false,
            stopping: false,
            keeper_gone: false,
        }
    }

    /// Runs until the daemon drops its handle and the next master had its time to take over; by ending has the
    /// addresses released, whatever the cause.
    pub(super) async fn run(mut self) {
        loop {
            let published = self.settle();
            if self.machine.stopped() {
                break;
            }
            match self.next_turn(published).await {
                Turn::Configured(Ok(())) => self.reconfigure(),
                Turn::Configured(Err(_)) => {
                    self.stopping = true;
                    self.machine.handle_event(machine::Event::Stop, Instant::now());
                }
                Turn::Interface(Ok(())) => self.look_at_interface(),
                Turn::Interface(Err(_)) => {
                    let why = "the thread that keeps its addresses has ended".to_owned();
                    self.machine
                        .handle_event(machine::Event::Interface(Interface::Unusable(why)), Instant::now());
                    self.keeper_gone = true;
                }
                Turn::Timer => {
                    if self.machine.state() == InstanceState::Backup {
                        // After a stall, what was heard meanwhile counts before the timer that ran out meanwhile.
                        self.receive(BACKLOG);
                    }
                    self.machine.handle_timeout(Instant::now());
                }
                Turn::Packets => self.receive(BATCH),
            }
        }
    }

    async fn next_turn(&mut self, published: bool) -> Turn {
        let now = Instant::now();
        let retry = (!published).then(|| now + PUBLISH_AGAIN_AFTER);
        let due = [self.machine.poll_timeout(), retry].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or(now + IDLE).into()) => Turn::Timer,
            changed = self.configured.changed(), if !self.stopping => Turn::Configured(changed),
            changed = self.seen.changed(), if !self.keeper_gone => Turn::Interface(changed),
            () = readable(self.socket.as_ref()) => Turn::Packets,
        }
    }

    /// Carries out what the machine asks for and publishes what came of it.
    fn settle(&mut self) -> bool {
        while let Some(action) = self.machine.poll_action() {
            self.carry_out(action);
        }
        self.report.publish(&self.machine, Instant::now())
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::SendAdvert { priority } => self.send(priority),
            Action::TakeAddresses => self.want(|wanted| wanted.hold = true),
            Action::ReleaseAddresses => self.want(|wanted| wanted.hold = false),
            Action::Announce => self.want(|wanted| wanted.bursts += 1),
            Action::SecondMaster(peer) => {
                self.report.second_master_began();
                self.log_problem(format!("a second master: {peer} claims to be master too"));
                self.tell(Event::SecondMaster { instance: self.config.name.clone(), peer });
            }
            Action::Transition { from, to, reason } => {
                self.report.entered(to);
                self.log_change(format!("{from:?} to {to:?}: {reason}"));
                self.tell(Event::Transition { instance: self.config.name.clone(), from, to, reason });
            }
        }
    }

    fn log_change(&self, change: String) {
        let instance = self.config.name.clone();
        log(move || tracing::info!(instance, "{change}"));
    }

    fn log_problem(&self, problem: String) {
        let instance = self.config.name.clone();
        log(move || tracing::warn!(instance, "{problem}"));
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        self.wanted.send_modify(change);
    }

    fn tell(&self, event: Event) {
        // The daemon may be busy or gone; the snapshot tells the same.
        let _ = self.events.try_send(event);
    }

    fn send(&mut self, priority: u8) {
        let (Some((_, socket)), Some(source)) = (&self.socket, self.primary) else { return };
        let addresses = self.config.addresses.iter().filter_map(|prefix| match prefix.prefix.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let advert = Advert {
            vrid: self.config.vrid,
            priority,
            interval: self.config.advertise,
            addresses: addresses.collect(),
        };
        match socket.send(&advert.emit(source, self.checksum)) {
            Ok(()) => {
                self.report.sent();
                self.send_failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.send_failing, true) {
                    self.log_problem(format!("cannot send on {}: {error}", self.config.interface));
                }
            }
        }
    }

    fn receive(&mut self, limit: usize) {
        let mut buffer = [0; wire::MAX_PACKET + 1];
        for _ in 0..limit {
            let Some((_, socket)) = &self.socket else { return };
            match socket.receive(&mut buffer) {
                Ok(length) => self.handle_packet(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A state of the interface, which the keeper sees too.
                Err(_) => return,
            }
        }
    }

    fn handle_packet(&mut self, packet: &[u8]) {
        let expected = Expected { vrid: self.config.vrid, own: self.primary };
        let received = match wire::parse_packet(packet, expected) {
            Ok(received) => received,
            Err(reason) => {
                self.report.discarded(reason);
                return;
            }
        };
        let from = Peer { address: received.source, priority: received.advert.priority };
        self.report.received(from, received.checksum == Checksum::PseudoHeader);
        self.adopt_checksum(received.checksum, from);
        self.compare_interval(received.advert.interval, from);
        let heard = Heard { from, interval: received.advert.interval };
        self.machine.handle_event(machine::Event::Advert(heard), Instant::now());
    }

    fn adopt_checksum(&mut self, checksum: Checksum, from: Peer) {
        self.checksum = checksum;
        if checksum != Checksum::default() && !std::mem::replace(&mut self.logged_checksum, true) {
            self.log_change(format!(
                "checksums of {} cover a pseudo-header (RFC 5798): doing the same",
                from.address
            ));
        }
    }

    /// RFC 9568 section 7.1 has a difference logged; once here for each.
    fn compare_interval(&mut self, interval: Duration, from: Peer) {
        let own = self.config.advertise;
        if interval != own && self.logged_interval.replace(interval) != Some(interval) {
            self.log_problem(format!(
                "{} advertises every {interval:?}, this node every {own:?}: make them the same",
                from.address
            ));
        }
    }

    fn reconfigure(&mut self) {
        self.config = self.configured.borrow_and_update().clone();
        self.machine.reconfigure(machine_config(&self.config), Instant::now());
        self.report.reconfigured(&self.config);
        let wanted = Wanted::of([&self.config]);
        self.wanted.send_if_modified(|current| current.reconfigure(wanted));
    }

    fn look_at_interface(&mut self) {
        let Some(seen) = self.seen.borrow_and_update().clone() else { return };
        let channel = seen.channels.into_iter().find(|channel| channel.family == Family::V4);
        let (index, interface) = match channel {
            Some(channel) => (channel.place.map(|place| place.index), usable(channel.interface)),
            None => (None, Interface::NoAddress),
        };
        let interface = match self.reopen_socket(index) {
            Ok(()) => interface,
            Err(error) => Interface::Unusable(format!("cannot open a VRRP socket: {error}")),
        };
        self.primary = match &interface {
            Interface::Up { primary } => Some(*primary),
            Interface::Missing | Interface::Down | Interface::NoAddress | Interface::Unusable(_) => None,
        };
        self.machine.handle_event(machine::Event::Interface(interface), Instant::now());
    }

    /// A socket is bound to an index: an interface that was made anew needs another.
    fn reopen_socket(&mut self, index: Option<u32>) -> io::Result<()> {
        if self.socket.as_ref().map(|(bound, _)| *bound) != index {
            self.socket = None;
        }
        if let (None, Some(index)) = (&self.socket, index) {
            self.socket = Some((index, AdvertSocket::open(&self.config.interface, index)?));
        }
        Ok(())
    }
}

/// Ready when a packet is there; never, without a socket.
async fn readable(socket: Option<&(u32, AdvertSocket)>) {
    match socket {
        Some((_, socket)) => socket.readable().await,
        None => std::future::pending().await,
    }
}

fn machine_config(config: &model::Instance) -> machine::Config {
    machine::Config {
        interface: config.interface.clone(),
        priority: config.priority,
        interval: config.advertise,
        preempt: config.preempt != model::Preempt::Never,
    }
}

fn usable(interface: Usable) -> Interface {
    match interface {
        Usable::Missing => Interface::Missing,
        Usable::Down => Interface::Down,
        Usable::Up { primary: IpAddr::V4(primary) } => Interface::Up { primary },
        Usable::NoAddress | Usable::Up { .. } => Interface::NoAddress,
    }
}
