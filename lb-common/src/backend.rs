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
