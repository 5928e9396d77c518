//! What the maps should hold, as a function of the configuration, the backends' health and the ways to them.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_common::addr::Addr;
use lb_common::backend::NextHop;
use lb_common::service::{Method, ServiceKey};

use crate::config::model::{Config, ForwardingMethod, Protocol, Service as ConfiguredService};
use crate::health::machine::State;

/// What the data plane should do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    pub services: BTreeMap<String, Service>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub method: Method,
    pub listeners: BTreeSet<ServiceKey>,
    /// The table that is there, if there is one, is better than what is known now.
    pub keep_table: bool,
    pub backends: BTreeMap<SocketAddr, Backend>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Share of new flows relative to the others; 0 takes none.
    pub weight: u16,
    /// The flows it has may go on.
    pub serving: bool,
}

/// How packets get to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub next_hop: NextHop,
    /// VLAN tags its frames carry, as [`lb_common::backend::tags`] encodes them.
    pub tags: u32,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// The node's own address on this way.
    pub source: IpAddr,
}

/// A backend takes new flows while it is up and the way to it is known. Until its first check has finished it takes none,
/// but keeps those it has: they were given to it by an earlier daemon, which knew. For as long as `patient` says so, a
/// service about which something is unknown keeps the table of that daemon too.
#[must_use]
pub fn desired(
    config: &Config,
    health: impl Fn(&ConfiguredService, SocketAddr) -> State,
    ways: &BTreeMap<IpAddr, Way>,
    patient: impl Fn(&ConfiguredService) -> bool,
) -> Desired {
    let service = |service: &ConfiguredService| {
        let unknown = |address: SocketAddr| {
            health(service, address) == State::Checking || !ways.contains_key(&address.ip())
        };
        let backends = service.backends.iter().map(|backend| {
            let state = health(service, backend.address);
            let takes_flows = state == State::Up && ways.contains_key(&backend.address.ip());
            let weight = if takes_flows { backend.weight } else { 0 };
            (backend.address, Backend { weight, serving: state != State::Down })
        });
        Service {
            keep_table: patient(service) && service.backends.iter().any(|backend| unknown(backend.address)),
            method: method(service.forward),
            listeners: service.listen.iter().map(|listen| listener(*listen, service.protocol)).collect(),
            backends: backends.collect(),
        }
    };
    Desired { services: config.services.iter().map(|s| (s.name.clone(), service(s))).collect() }
}

/// Key of a listen address in the services map.
#[must_use]
pub fn listener(listen: SocketAddr, protocol: Protocol) -> ServiceKey {
    ServiceKey {
        address: Addr::from(listen.ip()),
        port: listen.port().to_be(),
        protocol: match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        },
        zero: 0,
    }
}

const fn method(forward: ForwardingMethod) -> Method {
    match forward {
        ForwardingMethod::Nat => Method::Nat,
        ForwardingMethod::Tunnel => Method::Tunnel,
        ForwardingMethod::Direct => Method::Direct,
    }
}
