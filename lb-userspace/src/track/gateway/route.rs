//! Which neighbour, by which interface.

use std::net::IpAddr;
use std::pin::pin;

use futures_util::StreamExt as _;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder};

/// A neighbour to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop {
    /// Index of the interface.
    pub(super) interface: u32,
    /// `None`: the route says only the interface, as one on a point-to-point link does.
    pub(super) address: Option<IpAddr>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is an address of this node.
    Own,
    /// Several share the traffic of a route; it is there as long as any of them is.
    Hops(Vec<Hop>),
}

/// Addresses for documentation (RFC 5737, RFC 3849, RFC 9637) and benchmarks (RFC 2544, RFC 5180), to which nobody has a
/// route but the default one. The kernel is asked for the way to one of them, and tells which route that is: reading the
/// table instead would take long on a router.
const ELSEWHERE: [[&str; 4]; 2] = [
    ["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1"],
    ["2001:db8::1", "3fff::1", "2001:2::1", "3fff:fff::1"],
];

/// The host itself, which must be a neighbour.
pub(super) async fn to(netlink: &Handle, address: IpAddr) -> Result<Next, String> {
    let message = lookup(netlink, address, RouteFlags::empty()).await?;
    match message.header.kind {
        RouteType::Local => return Ok(Next::Own),
        RouteType::Unicast => {}
        kind => return Err(format!("the route to it is of type {kind:?}")),
    }
    let hops = hops(&message);
    match hops.first().and_then(|hop| hop.address) {
        Some(via) if via != address => Err(format!("is no neighbour: the way to it is by {via}")),
        _ => Ok(Next::Hops(hops.into_iter().map(|hop| Hop { address: Some(address), ..hop }).collect())),
    }
}

/// Those of the default route of IPv4, or of IPv6 if there is none of IPv4.
pub(super) async fn default(netlink: &Handle) -> Result<Next, String> {
    for family in ELSEWHERE {
        for elsewhere in family.iter().filter_map(|address| address.parse().ok()) {
            let Ok(message) = lookup(netlink, elsewhere, RouteFlags::FibMatch).await else { continue };
            let unicast = message.header.kind == RouteType::Unicast;
            if unicast && message.header.destination_prefix_length == 0 {
                return Ok(Next::Hops(hops(&message)));
            }
        }
    }
    Err("there is no default route".to_owned())
}

async fn lookup(netlink: &Handle, address: IpAddr, flags: RouteFlags) -> Result<RouteMessage, String> {
    let length = if address.is_ipv4() { 32 } else { 128 };
    let mut request = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, length)
        .map_err(|error| error.to_string())?
        .build();
    request.header.flags |= flags;
    let mut replies = pin!(netlink.route().get(request).execute());
    match replies.next().await {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(format!("there is no route to it: {error}")),
        None => Err("netlink does not answer".to_owned()),
    }
}

fn hops(message: &RouteMessage) -> Vec<Hop> {
    let several = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(several) => Some(several),
        _ => None,
    });
    match several {
        Some(several) => several
            .iter()
            .map(|hop| Hop { interface: hop.interface_index, address: via(&hop.attributes) })
            .collect(),
        None => {
            let interface = message.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(interface) => Some(*interface),
                _ => None,
            });
            let address = via(&message.attributes);
            interface.map(|interface| Hop { interface, address }).into_iter().collect()
        }
    }
}

fn via(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    fn gateway(last: u8) -> RouteAttribute {
        RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(10, 0, 0, last)))
    }

    #[test]
    fn each_next_hop_of_a_route_is_one_to_ask() {
        let hop = |interface, last| Hop { interface, address: Some(Ipv4Addr::new(10, 0, 0, last).into()) };
        let mut message = RouteMessage::default();
        assert_eq!(hops(&message), []);
        message.attributes = vec![RouteAttribute::Oif(4)];
        assert_eq!(hops(&message), [Hop { interface: 4, address: None }]);
        message.attributes.push(gateway(1));
        assert_eq!(hops(&message), [hop(4, 1)]);
        let several = [(4, 1), (5, 2)].map(|(interface, last)| {
            let mut next = RouteNextHop::default();
            next.interface_index = interface;
            next.attributes = vec![gateway(last)];
            next
        });
        message.attributes = vec![RouteAttribute::MultiPath(several.to_vec())];
        assert_eq!(hops(&message), [hop(4, 1), hop(5, 2)]);
    }

    #[test]
    fn every_address_elsewhere_is_one() {
        for (family, v4) in ELSEWHERE.iter().zip([true, false]) {
            assert!(family.iter().all(|address| address.parse::<IpAddr>().unwrap().is_ipv4() == v4));
        }
    }
}
