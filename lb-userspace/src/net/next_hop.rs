//! The way to an address: route, neighbour and link, as the kernel would choose them, by netlink.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::pin;

use futures_util::StreamExt as _;
use lb_common::backend::NextHop;
use rtnetlink::Handle;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use thiserror::Error;

use crate::desired::Way;

/// Why there is no way to an address yet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unresolved {
    #[error("no route: {0}")]
    NoRoute(String),
    #[error("it is this node's own address; a backend must be another host")]
    Local,
    #[error("its interface has no MAC address")]
    NotEthernet,
    #[error("{via} does not answer ARP")]
    NoNeighbour { via: IpAddr },
}

#[derive(Debug, Error)]
#[error("cannot read {what} by netlink: {source}")]
pub struct ReadError {
    what: &'static str,
    #[source]
    source: rtnetlink::Error,
}

/// Resolves every destination, from one reading of links and neighbours. Where a neighbour is missing, or has not been
/// heard of for a while, the kernel is asked to look for it, so that a later call has it or its new MAC address; until
/// then the old one is taken.
///
/// # Errors
/// The netlink connection is gone, or the kernel refuses.
pub async fn resolve(
    netlink: &Handle,
    destinations: &BTreeSet<IpAddr>,
) -> Result<BTreeMap<IpAddr, Result<Way, Unresolved>>, ReadError> {
    let links = links(netlink).await?;
    let neighbours = neighbours(netlink).await?;
    let mut ways = BTreeMap::new();
    // One gateway may be the way to many.
    let mut doubtful = BTreeSet::new();
    for destination in destinations {
        let way = match route(netlink, *destination).await {
            Ok(route) => {
                let way = way(&route, &links, &neighbours);
                if is_doubtful(&way, neighbours.get(&route.neighbour())) {
                    doubtful.insert(route.neighbour());
                }
                way
            }
            Err(error) => Err(Unresolved::NoRoute(error.to_string())),
        };
        ways.insert(*destination, way);
    }
    for (interface, via) in doubtful {
        ask(netlink, interface, via).await;
    }
    Ok(ways)
}

#[derive(Debug, Clone, Copy)]
struct Link {
    mac: Option<[u8; 6]>,
    mtu: u32,
}

#[derive(Debug, Clone, Copy)]
struct Route {
    interface: u32,
    /// The gateway, or the destination itself.
    via: IpAddr,
    source: Option<IpAddr>,
    local: bool,
}

impl Route {
    const fn neighbour(&self) -> (u32, IpAddr) {
        (self.interface, self.via)
    }
}

#[derive(Debug, Clone, Copy)]
struct Neighbour {
    mac: [u8; 6],
    /// It may have another MAC address by now. Packets that XDP sends don't make the kernel check, as its own would.
    stale: bool,
}

type Neighbours = BTreeMap<(u32, IpAddr), Neighbour>;

fn is_doubtful(way: &Result<Way, Unresolved>, neighbour: Option<&Neighbour>) -> bool {
    match way {
        Ok(_) => neighbour.is_some_and(|neighbour| neighbour.stale),
        Err(error) => matches!(error, Unresolved::NoNeighbour { .. }),
    }
}

fn way(route: &Route, links: &BTreeMap<u32, Link>, neighbours: &Neighbours) -> Result<Way, Unresolved> {
    if route.local {
        return Err(Unresolved::Local);
    }
    let link = links.get(&route.interface).ok_or(Unresolved::NotEthernet)?;
    let source = link.mac.ok_or(Unresolved::NotEthernet)?;
    let neighbour = neighbours.get(&route.neighbour()).ok_or(Unresolved::NoNeighbour { via: route.via })?;
    Ok(Way {
        next_hop: NextHop { destination: neighbour.mac, source, ifindex: route.interface, tags: 0 },
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        source: route.source.unwrap_or(route.via),
    })
}

async fn links(netlink: &Handle) -> Result<BTreeMap<u32, Link>, ReadError> {
    let mut links = BTreeMap::new();
    let mut replies = pin!(netlink.link().get().execute());
    while let Some(reply) = replies.next().await {
        let message = reply.map_err(|source| ReadError { what: "the links", source })?;
        let mut link = Link { mac: None, mtu: 1500 };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                _ => {}
            }
        }
        links.insert(message.header.index, link);
    }
    Ok(links)
}

async fn neighbours(netlink: &Handle) -> Result<Neighbours, ReadError> {
    let mut neighbours = BTreeMap::new();
    let mut replies = pin!(netlink.neighbours().get().set_address_family(AddressFamily::Inet).execute());
    while let Some(reply) = replies.next().await {
        let message = reply.map_err(|source| ReadError { what: "the neighbours", source })?;
        neighbours.extend(neighbour(&message));
    }
    Ok(neighbours)
}

fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Neighbour)> {
    if matches!(message.header.state, NeighbourState::Incomplete | NeighbourState::Failed) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let stale = message.header.state == NeighbourState::Stale;
    Some(((message.header.ifindex, address?), Neighbour { mac: mac?, stale }))
}

async fn route(netlink: &Handle, destination: IpAddr) -> Result<Route, rtnetlink::Error> {
    let length = if destination.is_ipv4() { 32 } else { 128 };
    let builder = RouteMessageBuilder::<IpAddr>::new();
    let request =
        builder.destination_prefix(destination, length).map_err(|_| rtnetlink::Error::RequestFailed)?;
    let mut replies = pin!(netlink.route().get(request.build()).execute());
    match replies.next().await {
        Some(reply) => Ok(parse_route(&reply?, destination)),
        None => Err(rtnetlink::Error::RequestFailed),
    }
}

fn parse_route(message: &RouteMessage, destination: IpAddr) -> Route {
    let mut route = Route {
        interface: 0,
        via: destination,
        source: None,
        local: message.header.kind == RouteType::Local,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(interface) => route.interface = *interface,
            RouteAttribute::Gateway(gateway) => route.via = address(gateway).unwrap_or(destination),
            RouteAttribute::PrefSource(source) => route.source = address(source),
            _ => {}
        }
    }
    route
}

const fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// `NTF_USE` makes the kernel resolve a neighbour as if a packet were waiting for it (`neigh_add` in
/// net/core/neighbour.c). A stale one it probes after `delay_first_probe_time` (5 s) and then counts as stale no longer, so
/// that each is asked for at most once in that time; it is broadcast for if it does not answer at its old MAC address.
async fn ask(netlink: &Handle, interface: u32, via: IpAddr) {
    let request = netlink
        .neighbours()
        .add(interface, via)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        .replace();
    if let Err(error) = request.execute().await {
        tracing::debug!("cannot ask the kernel to resolve {via}: {error}");
    }
}
