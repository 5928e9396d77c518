//! A listen address of a service: what a flow's first packet is looked up by.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Addr;
use crate::pod::pod;

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ServiceKey {
    pub address: Addr,
    /// Network order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    pub zero: u8,
}

/// How packets to one listen address are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServiceValue {
    /// Number of the service, the same for all its listen addresses.
    pub service: u32,
    /// Index of the Maglev table, or [`NO_TABLE`] while no backend takes new flows.
    pub table: u32,
    /// The table in force before the last change, or [`NO_TABLE`]. A connection whose SYN was forwarded by it without
    /// leaving state is still known by it when its next packet comes.
    pub previous: u32,
    /// A [`Method`] as integer.
    pub method: u32,
}

pod!(ServiceKey = 20 bytes, ServiceValue = 16 bytes);

pub const NO_TABLE: u32 = u32::MAX;

/// Forwarding method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// Destination rewritten; replies come back through the node.
    Nat = 1,
    /// IPIP (RFC 2003).
    Tunnel = 2,
    /// Only the MAC addresses rewritten.
    Direct = 3,
}

impl Method {
    #[inline(always)]
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Nat),
            2 => Some(Self::Tunnel),
            3 => Some(Self::Direct),
            _ => None,
        }
    }
}
