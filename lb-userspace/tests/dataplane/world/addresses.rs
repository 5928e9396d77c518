//! Who has which address, in either family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel::desired::Family;

/// A client by its network, which is what limits tell apart, and its place in it.
pub(crate) fn client(family: Family, network: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 18, network, host).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, network.into(), 0, 0, 0, host.into()).into(),
    }
}

/// A service's address by its number.
pub(crate) fn service_address(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, number.into()).into(),
    }
}

pub(super) fn backend_address(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, 10 + number as u8).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 10 + number as u16).into(),
    }
}

/// An address of the node that packets leave from: with `fullnat`, and as the outer source of a tunnel.
pub(crate) fn own_address(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(172, 16, 0, number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, number.into()).into(),
    }
}
