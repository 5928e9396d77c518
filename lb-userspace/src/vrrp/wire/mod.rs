//! Bytes of VRRP: version 3 over IPv4 and IPv6 (RFC 9568), version 2 over IPv4 (RFC 3768), to the multicast group or to
//! single nodes, and what tells a node's own from a stranger's.
//!
//! ```text
//! Advert ─► Advert::message ─► frames (multicast: whole Ethernet frames)
//!                         └──► packet (unicast over IPv4), or the message itself (unicast over IPv6)
//! IPv4 packet ─► split ─► Meta, payload ─┐
//! IPv6 payload, Meta of control messages ┴► decode ─► Received, or the Discard to count
//! ```
#![deny(clippy::disallowed_methods)]

mod advert;
pub mod auth;
mod checksum;
mod decode;
mod discard;
mod frame;
mod ip;
mod v2;
mod v3;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use advert::{Addresses, Advert};
pub use checksum::Checksum;
pub use decode::{Expected, Received, Unicast, decode};
pub use discard::Discard;
pub use frame::{frames, packet};
pub use ip::{Meta, split};

/// IP protocol number (RFC 9568 section 5.1.1.4).
pub const PROTOCOL: u8 = 112;
/// Destination of every multicast advertisement over IPv4 (RFC 9568 section 5.1.1.2).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Destination of every multicast advertisement over IPv6 (RFC 9568 section 5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL or hop limit, sent and, of multicast, required, so that no packet from beyond a router counts (RFC 9568 section
/// 5.1.1.3).
pub const TTL: u8 = 255;
/// The largest that is heard: an IPv4 header with all its options or none of IPv6, 255 addresses, and a trailer.
pub const MAX_PACKET: usize = 60 + advert::HEADER + 255 * 16 + auth::TRAILER;

/// Internetwork control (RFC 2474 class selector 6), as keepalived sends.
const TRAFFIC_CLASS: u8 = 0xc0;
const TYPE_ADVERTISEMENT: u8 = 1;

/// Address family of a virtual router. IPv4 and IPv6 with the same VRID are two of them (RFC 9568 section 1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The multicast group that its advertisements go to.
    #[must_use]
    pub const fn group(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(GROUP),
            Self::V6 => IpAddr::V6(GROUP_V6),
        }
    }
}
