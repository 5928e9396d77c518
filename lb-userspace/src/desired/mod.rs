//! What the maps should hold, as a function of the configuration, the backends' health, what the operator wants of them,
//! and the ways to them.
//!
//! The data plane forwards within one family of clients, so a configured service is one service there for each family it
//! listens on, with the backends of that family; a tunnel takes clients of either family to backends of either.

#![deny(clippy::disallowed_methods)]

mod identity;
mod record;
mod sources;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::addr::Addr;
use lb_common::backend::{self, NextHop};
use lb_common::service;

use crate::admin::Standing;
use crate::config::model::{self, Config, ForwardingMethod, Ports, Protocol};
use crate::health::machine::State;
use crate::sched;

pub use identity::identity;
pub use sources::SourcePrefix;

/// What the data plane should do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    pub services: BTreeMap<Key, Service>,
}

/// Names a service of the data plane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub name: String,
    pub family: Family,
}

/// Family of the clients' packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub listens: BTreeSet<Listen>,
    /// What its record holds but for tables, index of source addresses and [`service::MOVED`], which a plan fills in.
    pub record: service::Service,
    pub kind: sched::Kind,
    /// How many of the backends that take flows the data plane is told one by one: all, or none if there are more.
    pub members: usize,
    /// Flows may be elsewhere than the table says at any time.
    pub always_moved: bool,
    /// Source addresses of `fullnat`.
    pub pool: Option<service::Sources>,
    /// What becomes of sources, by prefix: [`service::SOURCE_ALLOWED`] or [`service::SOURCE_DENIED`].
    pub sources: BTreeMap<SourcePrefix, u32>,
    /// Server ids of QUIC connection ids, as [`service::QuicKey`] has them.
    pub quic: BTreeMap<[u8; 8], SocketAddr>,
    /// How long flows of a backend that leaves go on; `None`: until they end.
    pub drain: Option<Duration>,
    /// In the order of the configuration.
    pub backends: Vec<Backend>,
}

/// An address and ports that a service listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    pub address: Addr,
    /// IP protocol number.
    pub protocol: u8,
    pub ports: Ports,
}

/// Key of a listen address, of either family. Under port 0 there is the number of a record of ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    pub address: Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Host order.
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Port 0: the one that the client wrote.
    pub address: SocketAddr,
    /// Share of new flows relative to the others; 0 takes none.
    pub weight: u16,
    /// Whether it takes new flows is not known yet: it does if it did.
    pub unknown: bool,
    /// The flows it has may go on.
    pub serving: bool,
    pub identity: u32,
    /// As in [`backend::Backend`].
    pub high: u32,
    pub low: u32,
    /// `None` without a tunnel.
    pub outer: Option<Outer>,
}

/// The outer header of a tunnel to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    pub encapsulation: backend::Encapsulation,
    /// Host order; 0 without GUE.
    pub gue_port: u16,
    /// Network part of the source, and how many bits after it vary; `None`: the node's own address on the way.
    pub source: Option<(IpAddr, u8)>,
}

/// How packets get to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub next_hop: NextHop,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// The node's own address on this way.
    pub source: IpAddr,
}

/// What is known of the way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing yet.
    Unknown,
    Open,
    /// The next hop answers the kernel no more.
    Silent,
    /// There is no way any more.
    Lost,
}

impl Reach {
    /// Whether a backend there may get new flows. Where a check finds it up, that it does not answer ARP or ND does not
    /// count: the check knows better.
    #[must_use]
    pub const fn takes_flows(self, checked: bool) -> bool {
        match self {
            Self::Open => true,
            Self::Silent => checked,
            Self::Unknown | Self::Lost => false,
        }
    }
}

/// What is known beside the configuration.
pub struct Known<'a> {
    /// Jiffies a second.
    pub hz: u32,
    pub health: &'a dyn Fn(&model::Service, &model::Backend) -> State,
    pub standing: &'a dyn Fn(&model::Service, &model::Backend) -> Standing,
    pub reach: &'a dyn Fn(IpAddr) -> Reach,
    /// Ways that are not known yet are just being looked for.
    pub looking: bool,
}

/// A backend takes new flows while the operator wants it to, it is up, and there is a way to it. Until its first check
/// has finished it takes new ones only if it did before, and keeps those it has: they were given to it by an earlier daemon, or
/// before it was checked. It keeps them without a way too: that is no news of the backend, and it may be back before they notice.
#[must_use]
pub fn desired(config: &Config, known: &Known<'_>) -> Desired {
    let of_family = |configured, family| service(config, configured, family, known);
    let services = config.services.iter().flat_map(|configured| {
        Family::ALL.into_iter().filter_map(move |family| {
            let key = Key { name: configured.name.clone(), family };
            of_family(configured, family).map(|service| (key, service))
        })
    });
    Desired { services: services.collect() }
}

/// `None` if the service does not listen on the family.
fn service(
    config: &Config,
    configured: &model::Service,
    family: Family,
    known: &Known<'_>,
) -> Option<Service> {
    let listens = configured.listen.iter().filter(|listen| Family::of(listen.address) == family);
    let listens: BTreeSet<Listen> = listens
        .map(|listen| Listen {
            address: Addr::from(listen.address),
            protocol: protocol_number(configured.protocol),
            ports: listen.ports,
        })
        .collect();
    if listens.is_empty() {
        return None;
    }
    let reachable: Vec<&model::Backend> =
        configured.backends.iter().filter(|backend| takes(configured, backend, family)).collect();
    let sources = sources::of(configured, family);
    let record = record::record(config, configured, family, !sources.is_empty(), known.hz);
    Some(Service {
        listens,
        kind: record::kind(configured.scheduler),
        members: record::members(configured.scheduler),
        always_moved: record::always_moved(configured),
        pool: sources::pool(configured, family),
        quic: quic(&reachable),
        drain: configured.drain,
        backends: reachable.iter().map(|backend| self::backend(configured, backend, family, known)).collect(),
        sources,
        record,
    })
}

fn takes(service: &model::Service, backend: &model::Backend, family: Family) -> bool {
    service.forward.method() == ForwardingMethod::Tunnel || Family::of(backend.address) == family
}

fn quic(backends: &[&model::Backend]) -> BTreeMap<[u8; 8], SocketAddr> {
    let named = backends.iter().filter_map(|backend| Some((backend.quic_id.as_ref()?, backend.socket())));
    named
        .map(|(id, socket)| {
            let mut padded = [0; 8];
            padded.iter_mut().zip(id).for_each(|(byte, given)| *byte = *given);
            (padded, socket)
        })
        .collect()
}

fn backend(service: &model::Service, backend: &model::Backend, family: Family, known: &Known<'_>) -> Backend {
    let health = (known.health)(service, backend);
    let standing = (known.standing)(service, backend);
    let reach = (known.reach)(backend.address);
    let unknown = match health {
        State::Checking => reach != Reach::Lost,
        State::Up => known.looking && reach == Reach::Unknown,
        State::Down => false,
    };
    let takes_flows = unknown || health == State::Up && reach.takes_flows(service.check.is_some());
    let wanted = standing == Standing::Active;
    let (high, low) = backend.limit.map_or((0, 0), |limit| (limit.high, limit.low));
    Backend {
        address: backend.socket(),
        weight: if wanted && takes_flows { backend.weight } else { 0 },
        unknown: wanted && unknown,
        serving: standing != Standing::Out && health != State::Down,
        identity: identity(&service.name, family, protocol_number(service.protocol), backend.socket()),
        high,
        low,
        outer: record::outer(service, backend.address),
    }
}

/// IP protocol number.
#[must_use]
pub const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}
