//! Routes that Evenkeel adds, as routing netlink has them.

use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use serde::{Deserialize, Serialize};

use super::address::PROTOCOL;
use super::netlink::Request;

/// Of IPv6 routes that are given none (`IP6_RT_PRIO_USER`).
const METRIC_V6: u32 = 1024;

/// A unicast route with one next hop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// The network and its length; its other bits are 0.
    pub to: (IpAddr, u8),
    pub via: Option<IpAddr>,
    /// `None`: the kernel finds it by `via`.
    pub index: Option<u32>,
    pub source: Option<IpAddr>,
    pub metric: u32,
    pub table: u32,
}

/// What the kernel makes of no metric.
#[must_use]
pub fn default_metric(to: IpAddr) -> u32 {
    if to.is_ipv4() { 0 } else { METRIC_V6 }
}

impl Route {
    /// Whether this one of the kernel's is what comes of that one.
    #[must_use]
    pub fn is(&self, wanted: &Self) -> bool {
        let index = wanted.index.or(self.index);
        *self == Self { index, ..wanted.clone() }
    }
}

/// Adds a route; fails when there is one already that differs in nothing but the next hop.
#[must_use]
pub fn add(route: &Route) -> Request {
    Request { message: Message::NewRoute(message(route)), flags: NLM_F_CREATE | NLM_F_EXCL }
}

#[must_use]
pub fn remove(route: &Route) -> Request {
    Request { message: Message::DelRoute(message(route)), flags: 0 }
}

/// All of Evenkeel's routes of a family, chosen by the kernel.
#[must_use]
pub fn ours(family: AddressFamily) -> Message {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    Message::GetRoute(message)
}

fn message(route: &Route) -> RouteMessage {
    let (to, length) = route.to;
    let mut message = RouteMessage::default();
    message.header.address_family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = length;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    // IPv4 takes the next hop for a host of the network otherwise (ip-route(8)); IPv6 has no scopes.
    message.header.scope =
        if route.via.is_none() && to.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.attributes = vec![
        RouteAttribute::Destination(to.into()),
        RouteAttribute::Priority(route.metric),
        RouteAttribute::Table(route.table),
    ];
    message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(via.into())));
    message.attributes.extend(route.index.map(RouteAttribute::Oif));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

/// `None` for a route that is not Evenkeel's, or that it does not make.
#[must_use]
pub fn parse(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.protocol != RouteProtocol::Other(PROTOCOL) || header.kind != RouteType::Unicast {
        return None;
    }
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let mut route = Route {
        to: (any, header.destination_prefix_length),
        via: None,
        index: None,
        source: None,
        metric: 0,
        table: header.table.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.to.0 = address(to)?,
            RouteAttribute::Gateway(via) => route.via = address(via),
            RouteAttribute::Oif(index) => route.index = Some(*index),
            RouteAttribute::PrefSource(source) => route.source = address(source),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(table) => route.table = *table,
            _ => {}
        }
    }
    Some(route)
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_is_added_is_read_back_the_same() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let rows = [
            Route {
                to: (address("0.0.0.0"), 0),
                via: Some(address("203.0.113.254")),
                index: Some(3),
                source: Some(address("203.0.113.10")),
                metric: 50,
                table: 254,
            },
            Route {
                to: (address("2001:db8:1::"), 48),
                via: None,
                index: Some(3),
                source: None,
                metric: 1024,
                table: 100_000,
            },
        ];
        for route in rows {
            assert_eq!(parse(&message(&route)), Some(route.clone()));
            assert!(route.is(&Route { index: None, ..route.clone() }));
            assert!(!route.is(&Route { index: Some(4), ..route.clone() }));
        }
    }

    #[test]
    fn a_route_of_another_protocol_is_none_of_ours() {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = RouteType::Unicast;
        message.header.protocol = RouteProtocol::Static;
        assert_eq!(parse(&message), None);
    }
}
