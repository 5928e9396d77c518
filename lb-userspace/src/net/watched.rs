//! Which of the kernel's notifications may change a way: a router's table and a busy network have many that don't.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};

use super::way::{NeighbourKey, address, neighbour_key};

/// What the ways that were found last rest on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    pub(super) destinations: BTreeSet<IpAddr>,
    pub(super) neighbours: BTreeSet<NeighbourKey>,
}

impl Watched {
    /// Whether any of the messages, as they were received in one piece, may change a way. What can't be read may.
    pub(super) fn concerned_by(&self, mut received: &[u8]) -> bool {
        while !received.is_empty() {
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(received) else {
                return true;
            };
            match &message.payload {
                NetlinkPayload::InnerMessage(inner) if !self.concerned_by_message(inner) => {}
                _ => return true,
            }
            // NLMSG_ALIGN; the header's length is no less than the header.
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            let next = length.checked_next_multiple_of(4).unwrap_or(usize::MAX);
            received = received.get(next..).unwrap_or_default();
        }
        false
    }

    fn concerned_by_message(&self, message: &RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) | RouteNetlinkMessage::DelNeighbour(neighbour) => {
                neighbour_key(neighbour).is_some_and(|key| self.neighbours.contains(&key))
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                self.destinations.iter().any(|destination| covers(route, *destination))
            }
            _ => true,
        }
    }
}

/// Whether the destination is in the route's prefix.
fn covers(route: &RouteMessage, destination: IpAddr) -> bool {
    let length = u32::from(route.header.destination_prefix_length);
    let prefix = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(prefix) => address(prefix),
        _ => None,
    });
    match (prefix, destination) {
        (Some(IpAddr::V4(prefix)), IpAddr::V4(destination)) => {
            (prefix.to_bits() ^ destination.to_bits()).leading_zeros() >= length
        }
        (Some(IpAddr::V6(prefix)), IpAddr::V6(destination)) => {
            (prefix.to_bits() ^ destination.to_bits()).leading_zeros() >= length
        }
        (Some(_), _) => false,
        // A default route, of whatever family.
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use rtnetlink::packet_core::NetlinkHeader;
    use rtnetlink::packet_route::link::LinkMessage;
    use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
    use rtnetlink::packet_route::route::RouteAddress;
    use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

    use super::*;

    fn watched() -> Watched {
        let addresses = ["10.1.2.3", "2001:db8::7"].map(|text| text.parse().unwrap());
        Watched {
            destinations: BTreeSet::from(addresses),
            neighbours: BTreeSet::from([(2, "10.0.0.1".parse().unwrap())]),
        }
    }

    fn route(prefix: &str, length: u8) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.destination_prefix_length = length;
        let (family, prefix) = match prefix.parse().unwrap() {
            IpAddr::V4(v4) => (AddressFamily::Inet, RouteAddress::Inet(v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, RouteAddress::Inet6(v6)),
        };
        message.header.address_family = family;
        message.attributes = vec![RouteAttribute::Destination(prefix)];
        message
    }

    fn neighbour(interface: u32, address: [u8; 4]) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = interface;
        let address = NeighbourAddress::Inet(Ipv4Addr::from(address));
        message.attributes = vec![NeighbourAttribute::Destination(address)];
        message
    }

    fn bytes(message: Message) -> Vec<u8> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn what_may_change_a_way_concerns_it_and_the_rest_does_not() {
        let rows = [
            ("a link", Message::NewLink(LinkMessage::default()), true),
            ("a link that went away", Message::DelLink(LinkMessage::default()), true),
            ("a neighbour that is a next hop", Message::NewNeighbour(neighbour(2, [10, 0, 0, 1])), true),
            ("one that went away", Message::DelNeighbour(neighbour(2, [10, 0, 0, 1])), true),
            ("one on another interface", Message::NewNeighbour(neighbour(3, [10, 0, 0, 1])), false),
            ("another neighbour", Message::NewNeighbour(neighbour(2, [10, 0, 0, 2])), false),
            ("an entry of a bridge", Message::NewNeighbour(NeighbourMessage::default()), false),
            ("a route to the destination", Message::NewRoute(route("10.1.2.3", 32)), true),
            ("one to its network", Message::DelRoute(route("10.1.0.0", 16)), true),
            ("one to its half of a network", Message::NewRoute(route("10.1.2.2", 31)), true),
            ("one to the other half", Message::NewRoute(route("10.1.2.0", 31)), false),
            ("IPv6", Message::NewRoute(route("2001:db8::", 32)), true),
            ("other IPv6", Message::NewRoute(route("2001:db9::", 32)), false),
            ("a default route", Message::NewRoute(RouteMessage::default()), true),
        ];
        let mut all = Vec::new();
        for (what, message, wanted) in rows {
            let bytes = bytes(message);
            assert_eq!(watched().concerned_by(&bytes), wanted, "{what}");
            all.push((bytes, wanted));
        }
        let (other, concerned): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, wanted)| !wanted);
        let joined =
            |rows: &[(Vec<u8>, bool)]| rows.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
        assert!(!watched().concerned_by(&joined(&other)));
        assert!(watched().concerned_by(&[joined(&other), joined(&concerned[..1])].concat()));
    }

    #[test]
    fn what_cannot_be_read_concerns_the_ways() {
        let whole = bytes(Message::NewNeighbour(neighbour(2, [10, 0, 0, 2])));
        assert!(!watched().concerned_by(&whole));
        assert!(watched().concerned_by(&whole[..whole.len() - 1]), "cut short");
    }

    proptest! {
        #[test]
        fn no_bytes_are_an_endless_or_a_fatal_message(received in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = watched().concerned_by(&received);
        }

        #[test]
        fn a_route_covers_what_has_its_first_bits(prefix: u128, length in 0_u8..=128, destination: u128) {
            let destination = Ipv6Addr::from_bits(destination);
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            let route = route(&Ipv6Addr::from_bits(prefix & mask).to_string(), length);
            let wanted = destination.to_bits() & mask == prefix & mask;
            prop_assert_eq!(covers(&route, IpAddr::V6(destination)), wanted);
            let inside = Ipv6Addr::from_bits(prefix & mask | destination.to_bits() & !mask);
            prop_assert!(covers(&route, IpAddr::V6(inside)));
        }
    }
}
