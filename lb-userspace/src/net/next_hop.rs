//! Reads from the kernel, by netlink, what ways to other hosts are chosen from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::pin;

use futures_util::StreamExt as _;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::{Handle, RouteMessageBuilder};
use thiserror::Error;

use super::links::{self, Links};
use super::watched::Watched;
use super::way::{self, NeighbourKey, Neighbours, Route, Unresolved};
use crate::desired::Way;

#[derive(Debug, Error)]
#[error("cannot read {what} by netlink: {source}")]
pub struct ReadError {
    what: &'static str,
    #[source]
    source: rtnetlink::Error,
}

/// By destination.
pub type Ways = BTreeMap<IpAddr, Result<Way, Unresolved>>;

/// What one reading found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub ways: Ways,
    pub links: Links,
    pub watched: Watched,
}

/// Resolves every destination, from one reading of links and neighbours. Where a neighbour is missing, or has not been
/// heard of for a while, the kernel is asked to look for it, so that a later call has it or its new MAC address; until
/// then the old one is taken.
///
/// # Errors
/// The netlink connection is gone, or the kernel refuses.
pub async fn resolve(netlink: &Handle, destinations: &BTreeSet<IpAddr>) -> Result<Found, ReadError> {
    let links = links(netlink).await?;
    let neighbours = neighbours(netlink).await?;
    let mut ways = BTreeMap::new();
    let mut watched = Watched { destinations: destinations.clone(), neighbours: BTreeSet::new() };
    // One gateway may be the way to many.
    let mut doubtful = BTreeSet::new();
    for destination in destinations {
        let way = match route(netlink, *destination).await {
            Ok(route) => {
                let way = way::way(&route, &links, &neighbours);
                watched.neighbours.insert(route.neighbour());
                if way::is_doubtful(&way, neighbours.get(&route.neighbour())) {
                    doubtful.insert(route.neighbour());
                }
                way
            }
            Err(reason) => Err(reason),
        };
        ways.insert(*destination, way);
    }
    for neighbour in doubtful {
        ask(netlink, neighbour).await;
    }
    Ok(Found { ways, links, watched })
}

async fn links(netlink: &Handle) -> Result<Links, ReadError> {
    let mut links = Vec::new();
    let mut replies = pin!(netlink.link().get().execute());
    while let Some(reply) = replies.next().await {
        let message = reply.map_err(|source| ReadError { what: "the links", source })?;
        links.push(links::parse(&message));
    }
    Ok(links.into_iter().collect())
}

async fn neighbours(netlink: &Handle) -> Result<Neighbours, ReadError> {
    let mut neighbours = Neighbours::new();
    // Of no family in particular: IPv4's and IPv6's.
    let mut replies = pin!(netlink.neighbours().get().execute());
    while let Some(reply) = replies.next().await {
        let message = reply.map_err(|source| ReadError { what: "the neighbours", source })?;
        neighbours.extend(way::parse_neighbour(&message));
    }
    Ok(neighbours)
}

/// As the kernel would send a packet of its own; where a route has several next hops, by the one that it chooses.
async fn route(netlink: &Handle, destination: IpAddr) -> Result<Route, Unresolved> {
    let length = if destination.is_ipv4() { 32 } else { 128 };
    let request = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination, length)
        .map_err(|error| Unresolved::Unread(error.to_string()))?;
    let mut replies = pin!(netlink.route().get(request.build()).execute());
    match replies.next().await {
        Some(Ok(reply)) => Ok(way::parse_route(&reply, destination)),
        Some(Err(rtnetlink::Error::NetlinkError(error))) => Err(way::refusal(-error.raw_code())),
        Some(Err(error)) => Err(Unresolved::Unread(error.to_string())),
        None => Err(Unresolved::Unread("no answer".to_owned())),
    }
}

/// `NTF_USE` makes the kernel resolve a neighbour, of either family, as if a packet were waiting for it (`neigh_add` in
/// net/core/neighbour.c). A stale one it probes after `delay_first_probe_time` (5 s) and then counts as stale no longer, so
/// that each is asked for at most once in that time; it is broadcast for if it does not answer at its old MAC address.
async fn ask(netlink: &Handle, (interface, via): NeighbourKey) {
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
