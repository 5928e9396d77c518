//! The connection to the kernel: its whole state at first and now and then, and its changes in between.

use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::mirror::Mirror;
use crate::net::netlink::{Notifications, Requests};
use crate::net::{address, link, route, rule};

/// Apart from what every host has few of: a router's table may change without end.
const ADDRESSES: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
const ROUTES: [MulticastGroup; 4] = [
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) requests: Requests,
    addresses: Notifications,
    /// Once anybody wants any.
    routes: Option<Notifications>,
}

/// What was learned from notifications.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) changed: bool,
    /// Links or addresses went: the kernel drops routes with them without a word.
    pub(super) lost: bool,
    /// Notifications were lost.
    pub(super) incomplete: bool,
}

impl Kernel {
    pub(super) fn connect() -> io::Result<Self> {
        let requests = Requests::open()?;
        let addresses = Notifications::subscribe(&ADDRESSES)?;
        Ok(Self { requests, addresses, routes: None })
    }

    pub(super) fn watch_routes(&mut self) -> io::Result<()> {
        if self.routes.is_none() {
            self.routes = Some(Notifications::subscribe(&ROUTES)?);
        }
        Ok(())
    }

    pub(super) async fn readable(&self) {
        match &self.routes {
            Some(routes) => tokio::select! {
                () = self.addresses.readable() => {}
                () = routes.readable() => {}
            },
            None => self.addresses.readable().await,
        }
    }

    /// Takes all notifications that have come.
    pub(super) fn learn(&self, mirror: &mut Mirror) -> Learned {
        let mut learned = Learned::default();
        for notifications in [Some(&self.addresses), self.routes.as_ref()].into_iter().flatten() {
            let taken = notifications.take(|message| {
                if mirror.take(&message) {
                    learned.changed = true;
                    learned.lost |= !matches!(
                        message,
                        Message::NewAddress(_) | Message::NewRoute(_) | Message::NewRule(_)
                    );
                }
            });
            learned.incomplete |= taken.is_err();
        }
        learned
    }

    /// All that matters.
    ///
    /// # Errors
    /// The kernel refuses, or gives no answer.
    pub(super) fn read(&mut self) -> io::Result<Mirror> {
        let mut found = self.requests.dump(&link::all())?;
        found.extend(self.requests.dump(&address::all())?);
        let mut mirror = Mirror::of(&found);
        self.read_routes(&mut mirror)?;
        Ok(mirror)
    }

    /// Routes and rules only.
    ///
    /// # Errors
    /// The kernel refuses, or gives no answer.
    pub(super) fn read_routes(&mut self, mirror: &mut Mirror) -> io::Result<()> {
        let mut found = self.requests.dump(&route::ours(AddressFamily::Inet))?;
        found.extend(self.requests.dump(&rule::all(AddressFamily::Inet))?);
        // A host without IPv6 has no such routes.
        found.extend(self.requests.dump(&route::ours(AddressFamily::Inet6)).unwrap_or_default());
        found.extend(self.requests.dump(&rule::all(AddressFamily::Inet6)).unwrap_or_default());
        mirror.routes.clear();
        mirror.rules.clear();
        for message in &found {
            mirror.take(message);
        }
        Ok(())
    }
}
