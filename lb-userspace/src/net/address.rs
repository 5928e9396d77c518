//! IP addresses of interfaces, of both families, as routing netlink has them.

use std::net::{IpAddr, Ipv6Addr};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
    CacheInfo,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use serde::{Deserialize, Serialize};

use super::netlink::Request;

/// What Evenkeel adds is marked with it (`IFA_PROTO`, `RTA_PROTOCOL`, `FRA_PROTOCOL`): `ip address` shows `proto 0x70`.
/// Of addresses, kernels before 5.18 do not keep it.
pub const PROTOCOL: u8 = 0x70;

const FOREVER: u32 = u32::MAX;

/// An address on an interface, with the length of its network: what the kernel tells addresses apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    pub index: u32,
    pub address: IpAddr,
    pub length: u8,
}

/// An address as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    pub at: Address,
    /// IPv4: in a network that an earlier address of the interface is in.
    pub secondary: bool,
    /// Added by Evenkeel, as far as the kernel keeps that.
    pub ours: bool,
    /// IPv6: not known yet to be free, or known not to be.
    pub tentative: bool,
    /// IPv4 only.
    pub label: Option<String>,
    pub scope: u8,
}

/// What an address is added with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    /// IPv4 only.
    pub label: Option<String>,
    /// As rtnetlink(7) has it. The kernel finds that of an IPv6 address by itself.
    pub scope: u8,
    /// Without a route to its network.
    pub no_prefix_route: bool,
}

/// Adds an address. An IPv6 address serves at once, as its former holder may not have let it go yet, and is never chosen to
/// send from.
#[must_use]
pub fn add(address: Address, attributes: &Attributes) -> Request {
    let mut message = message(address);
    message.header.scope = AddressScope::from(attributes.scope);
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Noprefixroute, attributes.no_prefix_route);
    match address.address {
        IpAddr::V4(_) => message.attributes.extend(attributes.label.clone().map(AddressAttribute::Label)),
        IpAddr::V6(_) => {
            flags |= AddressFlags::Nodad;
            message.header.flags |= AddressHeaderFlags::Nodad;
            let mut lifetimes = CacheInfo::default();
            (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, FOREVER);
            message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
    }
    message.attributes.push(AddressAttribute::Flags(flags));
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    Request { message: Message::NewAddress(message), flags: NLM_F_CREATE | NLM_F_EXCL }
}

#[must_use]
pub fn remove(address: Address) -> Request {
    Request { message: Message::DelAddress(message(address)), flags: 0 }
}

/// All addresses of all interfaces, of both families.
#[must_use]
pub fn all() -> Message {
    Message::GetAddress(AddressMessage::default())
}

fn message(address: Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family =
        if address.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = address.length;
    message.header.index = address.index;
    message.attributes =
        vec![AddressAttribute::Local(address.address), AddressAttribute::Address(address.address)];
    message
}

/// `None` for what is no IP address.
#[must_use]
pub fn parse(message: &AddressMessage) -> Option<Present> {
    let (mut local, mut address, mut label, mut ours) = (None, None, None, false);
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Address(value) => address = Some(*value),
            AddressAttribute::Label(value) => label = Some(value.clone()),
            AddressAttribute::Flags(value) => flags = *value,
            AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)) => ours = true,
            _ => {}
        }
    }
    // Of a point-to-point interface, the other is its peer's.
    let address = local.or(address)?;
    Some(Present {
        at: Address { index: message.header.index, address, length: message.header.prefix_len },
        secondary: address.is_ipv4() && flags.contains(AddressFlags::Secondary),
        ours,
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        label,
        scope: message.header.scope.into(),
    })
}

/// The network of an address: its first bits, the rest 0.
#[must_use]
pub fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & !host).into())
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !host))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_is_the_first_bits_of_its_addresses() {
        let rows = [
            ("203.0.113.77", 24, "203.0.113.0"),
            ("203.0.113.77", 32, "203.0.113.77"),
            ("203.0.113.77", 0, "0.0.0.0"),
            ("2001:db8::77", 64, "2001:db8::"),
            ("2001:db8::77", 128, "2001:db8::77"),
            ("2001:db8::77", 0, "::"),
        ];
        for (address, length, wanted) in rows {
            assert_eq!(network(address.parse().unwrap(), length), wanted.parse::<IpAddr>().unwrap());
        }
    }

    proptest! {
        #[test]
        fn an_address_that_is_added_is_read_back_as_ours(
            address: IpAddr, length in 0_u8..=32, index: u32, scope in prop::sample::select(vec![0_u8, 253])
        ) {
            let at = Address { index, address, length };
            let attributes = Attributes { label: Some("eth0:vip".into()), scope, no_prefix_route: true };
            let Message::NewAddress(message) = add(at, &attributes).message else { unreachable!() };
            let label = address.is_ipv4().then(|| "eth0:vip".to_owned());
            let wanted = Present { at, secondary: false, ours: true, tentative: false, label, scope };
            prop_assert_eq!(parse(&message), Some(wanted));
        }
    }
}
