//! A backend of a service, with the next hop packets to it leave by.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Addr;
use crate::pod::pod;

/// One cache line, read for every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Backend {
    pub address: Addr,
    /// Outer source of a tunnel: the node's own address towards the backend.
    pub tunnel_source: Addr,
    pub next_hop: NextHop,
    /// Network order.
    pub port: u16,
    /// Largest IP packet the way to the backend takes, bytes.
    pub mtu: u16,
    /// [`SERVING`], [`RESOLVED`].
    pub flags: u32,
    pub service: u32,
    pub zero: u32,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NextHop {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    pub ifindex: u32,
}

pod!(Backend = 64 bytes, NextHop = 16 bytes);

/// Flows of this backend may go on: it is up, or it drains.
pub const SERVING: u32 = 1;
/// `next_hop` is filled in.
pub const RESOLVED: u32 = 2;

/// An 802.1Q tag is in use. Beside the VLAN identifier this bit, which a tag on the wire has other uses for, says so.
pub const TAGGED: u16 = 1 << 12;
/// The tag is an 802.1ad service tag.
pub const SERVICE_TAG: u16 = 1 << 13;

/// Inner and outer tag in one word; a frame with one tag has only the inner one. 0 for a frame without.
#[inline(always)]
#[must_use]
pub const fn tags(outer: u16, inner: u16) -> u32 {
    (outer as u32) << 16 | inner as u32
}
