//! The way to an address, chosen from what the kernel says of routes, neighbours and links.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::backend::NextHop;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use thiserror::Error;

use super::links::Links;
use crate::desired::Way;

/// Why there is no way to an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unresolved {
    #[error("no route: {0}")]
    NoRoute(String),
    #[error("the kernel does not say by which route: {0}")]
    Unread(String),
    #[error("it is this node's own address; a backend must be another host")]
    Local,
    #[error("its interface, number {index}, is gone")]
    NoInterface { index: u32 },
    #[error("its interface {interface} is gone")]
    Gone { interface: String },
    #[error("its interface {interface} is no Ethernet")]
    NotEthernet { interface: String },
    #[error("its interface {interface} is down, or has no carrier")]
    Down { interface: String },
    #[error("frames of its interface {interface} would carry more than two VLAN tags")]
    TooManyTags { interface: String },
    #[error("{via} does not answer {}", if via.is_ipv4() { "ARP" } else { "ND" })]
    NoNeighbour {
        via: IpAddr,
        /// The kernel has asked for it in vain; otherwise it is asking, or will be.
        failed: bool,
    },
    #[error(
        "this node has no address to send from, other than a link-local one: add one, or `src` to the route"
    )]
    NoSource,
}

/// What it means for a way that was known that there is none now. The greater one is the more certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// The next hop does not answer the kernel.
    Silent,
    /// Nothing can be sent there.
    Certain,
}

impl Unresolved {
    /// `None`: the way may be what it was.
    #[must_use]
    pub const fn loss(&self) -> Option<Loss> {
        match self {
            Self::NoRoute(_)
            | Self::Local
            | Self::NoInterface { .. }
            | Self::Gone { .. }
            | Self::NotEthernet { .. }
            | Self::Down { .. }
            | Self::TooManyTags { .. } => Some(Loss::Certain),
            Self::NoNeighbour { failed: true, .. } => Some(Loss::Silent),
            // What it goes by is there; only tunnels have the source of the way in their packets.
            Self::NoNeighbour { failed: false, .. } | Self::NoSource | Self::Unread(_) => None,
        }
    }
}

/// What the kernel says of the route to one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) kind: RouteType,
    pub(super) interface: u32,
    /// The gateway, or the destination itself.
    pub(super) via: IpAddr,
    /// The route's preferred source address, or the kernel's choice.
    pub(super) source: Option<IpAddr>,
    /// Of the route, if it says one, or learnt for the path.
    pub(super) mtu: Option<u32>,
}

impl Route {
    pub(super) const fn neighbour(&self) -> NeighbourKey {
        (self.interface, self.via)
    }
}

/// Interface and address.
pub(super) type NeighbourKey = (u32, IpAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    Known {
        mac: [u8; 6],
        /// It may have another MAC address by now. Packets that XDP sends don't make the kernel check, as its own would.
        stale: bool,
    },
    /// It did not answer.
    Failed,
}

pub(super) type Neighbours = BTreeMap<NeighbourKey, Neighbour>;

/// The way that a route is. Whether the neighbour is one to ask for tells [`is_doubtful`].
pub(super) fn way(route: &Route, links: &Links, neighbours: &Neighbours) -> Result<Way, Unresolved> {
    match route.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Err(Unresolved::Local),
        kind => return Err(Unresolved::NoRoute(format!("the kernel's is of type {kind:?}"))),
    }
    let exit = links.exit(route.interface)?;
    let destination = match neighbours.get(&route.neighbour()) {
        Some(Neighbour::Known { mac, .. }) => *mac,
        Some(Neighbour::Failed) => return Err(Unresolved::NoNeighbour { via: route.via, failed: true }),
        None => return Err(Unresolved::NoNeighbour { via: route.via, failed: false }),
    };
    let source = route.source.filter(|source| !is_link_local(*source)).ok_or(Unresolved::NoSource)?;
    let mtu = route.mtu.map_or(exit.mtu, |mtu| mtu.min(exit.mtu));
    Ok(Way {
        next_hop: NextHop { destination, source: exit.source, ifindex: exit.ifindex, tags: exit.tags },
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        source,
    })
}

/// Whether the kernel is to be asked to look for the neighbour.
pub(super) fn is_doubtful(way: &Result<Way, Unresolved>, neighbour: Option<&Neighbour>) -> bool {
    match way {
        Ok(_) => matches!(neighbour, Some(Neighbour::Known { stale: true, .. })),
        Err(error) => matches!(error, Unresolved::NoNeighbour { .. }),
    }
}

/// An IPv4 link-local address is one that works: hosts without another may have nothing else.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// A neighbour from what the kernel says of it; `None` while it has no MAC address and may still get one.
pub(super) fn parse_neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    match message.header.state {
        NeighbourState::Incomplete => return None,
        NeighbourState::Failed => return Some((neighbour_key(message)?, Neighbour::Failed)),
        _ => {}
    }
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    });
    let stale = message.header.state == NeighbourState::Stale;
    Some((neighbour_key(message)?, Neighbour::Known { mac: mac?, stale }))
}

/// `None` for an entry of a bridge, which has no address.
pub(super) fn neighbour_key(message: &NeighbourMessage) -> Option<NeighbourKey> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    Some((message.header.ifindex, address))
}

/// A route from the kernel's answer for one destination; of several next hops it has chosen one.
pub(super) fn parse_route(message: &RouteMessage, destination: IpAddr) -> Route {
    let mut route =
        Route { kind: message.header.kind, interface: 0, via: destination, source: None, mtu: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(interface) => route.interface = *interface,
            RouteAttribute::Gateway(gateway) => route.via = address(gateway).unwrap_or(destination),
            // An IPv4 destination behind an IPv6 gateway (RFC 8950).
            RouteAttribute::Via(RouteVia::Inet6(v6)) => route.via = IpAddr::V6(*v6),
            RouteAttribute::PrefSource(source) => route.source = address(source),
            RouteAttribute::Metrics(metrics) => route.mtu = mtu(metrics),
            _ => {}
        }
    }
    route
}

fn mtu(metrics: &[RouteMetric]) -> Option<u32> {
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    })
}

pub(super) const fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// What the kernel's refusal to name a route means: `fib_props` in net/ipv4/fib_semantics.c, `ip6_rt_type_to_error` in
/// net/ipv6/route.c.
pub(super) fn refusal(errno: i32) -> Unresolved {
    let text = match errno {
        libc::ENETUNREACH => "the routing table has none",
        libc::EHOSTUNREACH => "the routing table says unreachable",
        libc::EACCES => "the routing table says prohibit",
        libc::EINVAL => "the routing table says blackhole, or no host can have this address",
        // It lacks memory, for example: that says nothing of the route.
        errno => return Unresolved::Unread(std::io::Error::from_raw_os_error(errno).to_string()),
    };
    Unresolved::NoRoute(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::net::links::Link;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn links() -> Links {
        let link =
            Link { index: 2, name: "eth0".to_owned(), mac: Some(OWN), mtu: 9000, up: true, below: None };
        let cut = Link { index: 3, name: "eth1".to_owned(), up: false, ..link.clone() };
        let tunnel = Link { index: 4, name: "tun0".to_owned(), mac: None, ..link.clone() };
        Links::from_iter([link, cut, tunnel])
    }

    fn route(via: &str, source: &str) -> Route {
        Route { kind: RouteType::Unicast, interface: 2, via: ip(via), source: Some(ip(source)), mtu: None }
    }

    /// MAC address, MTU and source.
    type Told = ([u8; 6], u16, IpAddr);

    /// What the way over a route is, or what the error says, and whether the neighbour is
    /// asked for.
    fn chosen(route: Route, stale: bool) -> (Result<Told, String>, bool) {
        let vias = ["10.0.0.1", "2001:db8::1", "fe80::1"];
        let known = vias.map(|via| ((2, ip(via)), Neighbour::Known { mac: PEER, stale }));
        let neighbours = Neighbours::from(known);
        let way = way(&route, &links(), &neighbours);
        let asked = is_doubtful(&way, neighbours.get(&route.neighbour()));
        let told = way.map(|way| (way.next_hop.destination, way.mtu, way.source));
        (told.map_err(|error| error.to_string()), asked)
    }

    #[test]
    fn a_way_is_what_route_neighbour_and_link_say_together() {
        let (v4, v6) = (route("10.0.0.1", "10.0.0.9"), route("fe80::1", "2001:db8::9"));
        let taken = |mtu, source| Ok((PEER, mtu, ip(source)));
        let refused = |text: &str| Err(text.to_owned());
        let no_source = "this node has no address to send from, other than a link-local one: \
                         add one, or `src` to the route";
        let rows = [
            ("IPv4", v4, taken(9000, "10.0.0.9"), false),
            ("IPv6, by a link-local gateway", v6, taken(9000, "2001:db8::9"), false),
            ("IPv4 by an IPv6 gateway", Route { via: ip("fe80::1"), ..v4 }, taken(9000, "10.0.0.9"), false),
            ("smaller MTU of the route", Route { mtu: Some(1400), ..v6 }, taken(1400, "2001:db8::9"), false),
            ("larger MTU of the route", Route { mtu: Some(65_535), ..v6 }, taken(9000, "2001:db8::9"), false),
            ("no neighbour", route("10.0.0.2", "10.0.0.9"), refused("10.0.0.2 does not answer ARP"), true),
            (
                "no neighbour, IPv6",
                route("fe80::2", "2001:db8::9"),
                refused("fe80::2 does not answer ND"),
                true,
            ),
            ("link-local source", route("2001:db8::1", "fe80::9"), refused(no_source), false),
            ("no source", Route { source: None, ..v6 }, refused(no_source), false),
            (
                "own address",
                Route { kind: RouteType::Local, ..v4 },
                refused("it is this node's own address; a backend must be another host"),
                false,
            ),
            (
                "blackhole",
                Route { kind: RouteType::BlackHole, ..v6 },
                refused("no route: the kernel's is of type BlackHole"),
                false,
            ),
            (
                "no carrier",
                Route { interface: 3, ..v4 },
                refused("its interface eth1 is down, or has no carrier"),
                false,
            ),
            ("tunnel", Route { interface: 4, ..v4 }, refused("its interface tun0 is no Ethernet"), false),
            (
                "interface gone",
                Route { interface: 9, ..v4 },
                refused("its interface, number 9, is gone"),
                false,
            ),
        ];
        for (what, route, wanted, asked) in rows {
            assert_eq!(chosen(route, false), (wanted, asked), "{what}");
        }
    }

    #[test]
    fn a_stale_neighbour_is_used_and_asked_for() {
        let (way, asked) = chosen(route("10.0.0.1", "10.0.0.9"), true);
        assert!(way.is_ok() && asked);
    }

    #[test]
    fn routes_are_read_with_gateway_source_and_mtu_of_either_family() {
        let gateway = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Oif(2),
            RouteAttribute::Via(RouteVia::Inet6(gateway)),
            RouteAttribute::PrefSource(RouteAddress::Inet6(source)),
            RouteAttribute::Metrics(vec![RouteMetric::Hoplimit(3), RouteMetric::Mtu(1400)]),
        ];
        let wanted = Route { mtu: Some(1400), ..route("fe80::1", "2001:db8::9") };
        assert_eq!(parse_route(&message, ip("10.0.0.1")), wanted);
        message.attributes[1] = RouteAttribute::Gateway(RouteAddress::Inet6(gateway));
        assert_eq!(parse_route(&message, ip("2001:db8:1::1")), wanted);
        message.attributes.remove(1);
        assert_eq!(parse_route(&message, ip("2001:db8::1")).via, ip("2001:db8::1"), "on the link");
    }

    #[test]
    fn a_neighbour_without_a_mac_address_of_an_ethernet_is_none() {
        let message = |state, mac: Option<&[u8]>| {
            let mut message = NeighbourMessage::default();
            message.header.ifindex = 2;
            message.header.state = state;
            message.attributes =
                vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(Ipv6Addr::LOCALHOST))];
            message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.to_vec())));
            message
        };
        let read = |state, mac| parse_neighbour(&message(state, mac)).map(|(_, neighbour)| neighbour);
        let known = |stale| Some(Neighbour::Known { mac: PEER, stale });
        assert_eq!(read(NeighbourState::Reachable, Some(&PEER)), known(false));
        assert_eq!(read(NeighbourState::Permanent, Some(&PEER)), known(false));
        assert_eq!(read(NeighbourState::Stale, Some(&PEER)), known(true));
        for state in [NeighbourState::Delay, NeighbourState::Probe] {
            assert_eq!(read(state, Some(&PEER)), known(false), "it is being asked at the address it had");
        }
        assert_eq!(read(NeighbourState::Incomplete, None), None);
        assert_eq!(read(NeighbourState::Failed, Some(&PEER)), Some(Neighbour::Failed));
        assert_eq!(read(NeighbourState::Failed, None), Some(Neighbour::Failed));
        assert_eq!(read(NeighbourState::Reachable, None), None);
        assert_eq!(read(NeighbourState::Noarp, Some(&[1, 2, 3, 4])), None);
    }
}
