//! Keeps the virtual addresses of one instance on its interface, or off it, and watches the interface.
//!
//! Level-triggered: every change here or there, and every second, what is is compared with what should be. So an address
//! that somebody deletes comes back, and one that a crash left behind goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use futures_util::{Stream, StreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::guard::{Guard, Held};
use super::log::log;
use super::machine::Interface;
use crate::net::address::{self, Present};
use crate::net::announce::{FrameSocket, gratuitous_arp};
use crate::net::link::{self, Link};

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Bounds the work when somebody keeps changing the interface.
const MIN_SWEEP_GAP: Duration = Duration::from_millis(20);
/// Frames for each address in one burst, as keepalived sends.
const BURST: usize = 5;
const RELEASE_ATTEMPTS: u32 = 3;

/// What the addresses should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) hold: bool,
    /// Each with its prefix length.
    pub(super) addresses: BTreeMap<Ipv4Addr, u8>,
    /// Of priority 255: an address that was there without us is the host's own and stays.
    pub(super) owner: bool,
    /// Bursts of gratuitous ARP asked for so far.
    pub(super) bursts: u64,
}

/// What the interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) interface: Interface,
    pub(super) index: Option<u32>,
}

pub(super) struct Keeper {
    name: String,
    interface: String,
    guard: Guard,
    wanted: watch::Receiver<Wanted>,
    seen: watch::Sender<Option<Seen>>,
    netlink: Option<Netlink>,
    frames: Option<FrameSocket>,
    link: Option<Link>,
    /// Addresses that were configured at some time since the last full sweep: not wanted means removed.
    managed: BTreeSet<Ipv4Addr>,
    /// What the guard would remove.
    told: BTreeSet<Held>,
    bursts_sent: u64,
    failing: bool,
}

type Changes = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

struct Netlink {
    handle: Handle,
    changes: Changes,
    _connections: JoinSet<()>,
}

impl Keeper {
    pub(super) fn new(
        name: String,
        interface: String,
        guard: Guard,
        wanted: watch::Receiver<Wanted>,
        seen: watch::Sender<Option<Seen>>,
    ) -> Self {
        Self {
            name,
            interface,
            guard,
            wanted,
            seen,
            netlink: None,
            frames: None,
            link: None,
            managed: BTreeSet::new(),
            told: BTreeSet::new(),
            bursts_sent: 0,
            failing: false,
        }
    }

    /// Runs until the other end of `wanted` is gone, for whatever cause, then releases the addresses.
    pub(super) async fn run(mut self) {
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            self.sweep_and_log(&wanted).await;
            if self.next_cause().await.is_err() {
                break;
            }
        }
        let released = Wanted { hold: false, ..self.wanted.borrow().clone() };
        for _ in 0..RELEASE_ATTEMPTS {
            if self.sweep_and_log(&released).await {
                break;
            }
        }
    }

    /// Waits for a reason to sweep; an error when nobody wants anything any more.
    async fn next_cause(&mut self) -> Result<(), watch::error::RecvError> {
        let swept = Instant::now();
        let mut due = swept + SWEEP_EVERY;
        loop {
            let index = self.link.map(|link| link.index);
            tokio::select! {
                biased;
                changed = self.wanted.changed() => return changed,
                () = sleep_until(due) => return Ok(()),
                change = next_change(&mut self.netlink) => {
                    if concerns(&change, index) {
                        due = due.min(swept + MIN_SWEEP_GAP);
                    }
                }
            }
        }
    }

    async fn sweep_and_log(&mut self, wanted: &Wanted) -> bool {
        match self.sweep(wanted).await {
            Ok(()) => {
                self.failing = false;
                true
            }
            Err(error) => {
                self.netlink = None;
                if !std::mem::replace(&mut self.failing, true) {
                    self.log_problem(format!("{error:#}; trying again every second"));
                }
                false
            }
        }
    }

    async fn sweep(&mut self, wanted: &Wanted) -> anyhow::Result<()> {
        let netlink = match &self.netlink {
            Some(netlink) => netlink.handle.clone(),
            None => self.netlink.insert(connect()?).handle.clone(),
        };
        self.link = link::find(&netlink, &self.interface).await?;
        let Some(link) = self.link else {
            self.tell_guard(&BTreeSet::new());
            self.tell_driver(Seen { interface: Interface::Missing, index: None });
            return Ok(());
        };
        let mut present = address::list(&netlink, link.index).await?;
        // Before the addresses change, so that the driver learns early and never sees its own.
        self.tell_driver(Seen { interface: state_of(link, &present, wanted), index: Some(link.index) });
        self.managed.extend(wanted.addresses.keys());
        let mut surplus = surplus(&present, wanted, &self.managed);
        surplus.retain(|&(address, length)| !self.leave(Held { index: link.index, address, length }));
        for &(address, length) in &surplus {
            address::delete(&netlink, link.index, address, length).await?;
            self.log_change(format!("removed {address}/{length} from {}", self.interface));
        }
        if !surplus.is_empty() {
            // The kernel removes the secondary addresses of a network with its primary one.
            present = address::list(&netlink, link.index).await?;
        }
        let missing = missing(&present, wanted);
        self.tell_guard(&to_guard(link.index, &present, wanted));
        let mut added = Ok(());
        for &(address, length) in &missing {
            match address::add(&netlink, link.index, address, length).await {
                Ok(()) => self.log_change(format!("added {address}/{length} to {}", self.interface)),
                // The others are still needed.
                Err(error) => added = Err(error.into()),
            }
        }
        self.managed = wanted.addresses.keys().copied().collect();
        self.announce(link, wanted, &missing);
        added
    }

    fn log_change(&self, change: String) {
        let instance = self.name.clone();
        log(move || tracing::info!(instance, "{change}"));
    }

    fn log_problem(&self, problem: String) {
        let instance = self.name.clone();
        log(move || tracing::warn!(instance, "{problem}"));
    }

    fn tell_driver(&self, seen: Seen) {
        self.seen.send_if_modified(|last| last.replace(seen.clone()).as_ref() != Some(&seen));
    }

    /// Whether the address stays because another instance of this daemon holds it: removed here, that one would add it
    /// again, and so on.
    fn leave(&mut self, held: Held) -> bool {
        let left = self.guard.left_to_another(&held, self.told.contains(&held));
        if left {
            self.told.remove(&held);
        }
        left
    }

    fn tell_guard(&mut self, held: &BTreeSet<Held>) {
        held.difference(&self.told).for_each(|&held| self.guard.hold(held));
        self.told.difference(held).for_each(|&held| self.guard.release(held));
        self.told.clone_from(held);
    }

    /// Announces every address when a burst was asked for, else those that were just added.
    fn announce(&mut self, link: Link, wanted: &Wanted, added: &[(Ipv4Addr, u8)]) {
        let all = wanted.bursts != std::mem::replace(&mut self.bursts_sent, wanted.bursts);
        let addresses: Vec<Ipv4Addr> = if all && wanted.hold {
            wanted.addresses.keys().copied().collect()
        } else {
            added.iter().map(|&(address, _)| address).collect()
        };
        let Some(mac) = link.mac.filter(|_| !addresses.is_empty()) else { return };
        if let Err(error) = self.send_bursts(link.index, mac, &addresses) {
            self.log_problem(format!("cannot announce on {}: {error}", self.interface));
        }
    }

    fn send_bursts(&mut self, index: u32, mac: [u8; 6], addresses: &[Ipv4Addr]) -> std::io::Result<()> {
        let socket = match &self.frames {
            Some(socket) => socket,
            None => self.frames.insert(FrameSocket::open()?),
        };
        // Address by address within a round: the last one is first announced as early as can be.
        for _ in 0..BURST {
            for &address in addresses {
                socket.send(index, &gratuitous_arp(mac, address))?;
            }
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.told.iter().for_each(|held| self.guard.abandon(held));
    }
}

fn connect() -> anyhow::Result<Netlink> {
    let context = "cannot open a netlink socket";
    let (requests, handle, _) = rtnetlink::new_connection_with_strict_check().context(context)?;
    // Apart, so that a flood of changes cannot overrun the answers.
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr];
    let (watch, _, changes) = rtnetlink::new_multicast_connection(&groups).context(context)?;
    let mut connections = JoinSet::new();
    connections.spawn(requests);
    connections.spawn(watch);
    let changes = Box::pin(changes.map(|(message, _)| message));
    Ok(Netlink { handle, changes, _connections: connections })
}

/// The next change of any interface; never, without a connection.
async fn next_change(netlink: &mut Option<Netlink>) -> NetlinkMessage<RouteNetlinkMessage> {
    if let Some(netlink) = netlink
        && let Some(message) = netlink.changes.next().await
    {
        return message;
    }
    std::future::pending().await
}

fn concerns(change: &NetlinkMessage<RouteNetlinkMessage>, index: Option<u32>) -> bool {
    let NetlinkPayload::InnerMessage(message) = &change.payload else { return false };
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            index.is_none_or(|index| index == link.header.index)
        }
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            index == Some(address.header.index)
        }
        _ => false,
    }
}

/// The address to send from is the first that is not virtual; an owner's may be.
fn state_of(link: Link, present: &[Present], wanted: &Wanted) -> Interface {
    if !link.up {
        return Interface::Down;
    }
    let own = |present: &&Present| {
        wanted.owner && !present.ours || !wanted.addresses.contains_key(&present.address)
    };
    let candidates = || present.iter().filter(own);
    candidates()
        .find(|present| !present.secondary)
        .or_else(|| candidates().next())
        .map_or(Interface::NoAddress, |present| Interface::Up { primary: present.address.into() })
}

/// Addresses to remove: managed ones that are not to be held, or not with this length.
fn surplus(present: &[Present], wanted: &Wanted, managed: &BTreeSet<Ipv4Addr>) -> Vec<(Ipv4Addr, u8)> {
    let is_held =
        |present: &Present| wanted.hold && wanted.addresses.get(&present.address) == Some(&present.length);
    let is_hosts_own = |present: &Present| wanted.owner && !present.ours;
    present
        .iter()
        .filter(|present| managed.contains(&present.address) && !is_held(present) && !is_hosts_own(present))
        .map(|present| (present.address, present.length))
        .collect()
}

fn missing(present: &[Present], wanted: &Wanted) -> Vec<(Ipv4Addr, u8)> {
    let is_present =
        |(address, length)| present.iter().any(|at| (at.address, at.length) == (address, length));
    let wanted = wanted.addresses.iter().filter(|_| wanted.hold).map(|(&address, &length)| (address, length));
    wanted.filter(|&wanted| !is_present(wanted)).collect()
}

fn to_guard(index: u32, present: &[Present], wanted: &Wanted) -> BTreeSet<Held> {
    let is_hosts_own = |address| wanted.owner && present.iter().any(|at| at.address == address && !at.ours);
    wanted
        .addresses
        .iter()
        .filter(|&(&address, _)| wanted.hold && !is_hosts_own(address))
        .map(|(&address, &length)| Held { index, address, length })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
    const PRIMARY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn present(address: Ipv4Addr, length: u8, ours: bool) -> Present {
        Present { address, length, secondary: false, ours }
    }

    fn wanted(hold: bool) -> Wanted {
        Wanted { hold, addresses: BTreeMap::from([(VIRTUAL, 24)]), owner: false, bursts: 0 }
    }

    #[test]
    fn an_address_left_behind_is_removed_and_others_are_let_alone() {
        let managed = BTreeSet::from([VIRTUAL, OTHER]);
        let found = [present(PRIMARY, 24, false), present(VIRTUAL, 24, false), present(OTHER, 24, true)];
        assert_eq!(surplus(&found, &wanted(false), &managed), [(VIRTUAL, 24), (OTHER, 24)]);
        assert_eq!(surplus(&found, &wanted(true), &managed), [(OTHER, 24)]);
        assert_eq!(missing(&found, &wanted(true)), []);
    }

    #[test]
    fn a_changed_length_replaces_the_address() {
        let found = [present(VIRTUAL, 32, true)];
        assert_eq!(surplus(&found, &wanted(true), &BTreeSet::from([VIRTUAL])), [(VIRTUAL, 32)]);
        assert_eq!(missing(&found, &wanted(true)), [(VIRTUAL, 24)]);
    }

    #[test]
    fn an_owner_never_loses_the_address_the_host_had_before() {
        let owner = |hold| Wanted { owner: true, ..wanted(hold) };
        let found = [present(VIRTUAL, 24, false)];
        assert_eq!(surplus(&found, &owner(false), &BTreeSet::from([VIRTUAL])), []);
        assert_eq!(to_guard(1, &found, &owner(true)), BTreeSet::new());
        assert_eq!(to_guard(1, &[], &owner(true)).len(), 1);
        assert_eq!(
            surplus(&[present(VIRTUAL, 24, true)], &owner(false), &BTreeSet::from([VIRTUAL])).len(),
            1
        );
    }

    #[test]
    fn a_virtual_address_is_never_the_one_to_send_from() {
        let link = Link { index: 1, up: true, mac: None };
        let found = [present(VIRTUAL, 24, true), Present { secondary: true, ..present(PRIMARY, 24, false) }];
        assert_eq!(state_of(link, &found, &wanted(true)), Interface::Up { primary: PRIMARY.into() });
        assert_eq!(state_of(link, &found[..1], &wanted(true)), Interface::NoAddress);
        assert_eq!(state_of(Link { up: false, ..link }, &found, &wanted(true)), Interface::Down);
    }
}
