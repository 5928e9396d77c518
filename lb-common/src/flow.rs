//! Flows: one 5-tuple and what was decided for it.
//!
//! A value says everything about its flow: the address and port of the other side of the translation, not only the
//! number of a backend, which is this node's own. It can be copied to another node, and from either half of a `nat`
//! flow the key of the other half follows.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::backend::NextHop;
use crate::pod::pod;

/// The 5-tuple of an IPv4 packet as it arrives, in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowKey {
    pub source: u32,
    pub destination: u32,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowValue {
    /// Layout of this value: [`VERSION`].
    pub version: u8,
    /// A [`Half`] as integer.
    pub half: u8,
    /// A [`crate::service::Method`] as integer.
    pub method: u8,
    /// What this half has shown: [`SEEN_FIN`], [`SEEN_RST`].
    pub phase: u8,
    /// Index of the backend on this node.
    pub backend: u32,
    pub service: u32,
    /// Low 32 bits of the kernel's jiffies when this half last saw a packet; at most one second behind.
    pub last_seen: u32,
    /// Forward half: the backend's address. Reply half: the service's.
    pub address: u32,
    /// The port that goes with `address`, network order.
    pub port: u16,
    pub zero: u16,
    /// The way back to the client, learned from the client's packets.
    pub return_hop: NextHop,
}

pod!(FlowKey = 16 bytes, FlowValue = 40 bytes);

pub const VERSION: u8 = 1;

/// Which direction of a flow an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Half {
    /// Client to backend.
    Forward = 1,
    /// Backend to client; `nat` only.
    Reply = 2,
}

/// This half sent a FIN.
pub const SEEN_FIN: u8 = 1;
/// This half sent a RST.
pub const SEEN_RST: u8 = 2;

impl FlowKey {
    /// The key of the other half of a `nat` flow, from this half's value.
    #[inline(always)]
    #[must_use]
    pub const fn other_half(&self, value: &FlowValue) -> Self {
        if value.half == Half::Forward as u8 {
            Self {
                source: value.address,
                destination: self.source,
                source_port: value.port,
                destination_port: self.source_port,
                protocol: self.protocol,
            }
        } else {
            Self {
                source: self.destination,
                destination: value.address,
                source_port: self.destination_port,
                destination_port: value.port,
                protocol: self.protocol,
            }
        }
    }
}

impl FlowValue {
    #[inline(always)]
    #[must_use]
    pub const fn is_forward(&self) -> bool {
        self.half == Half::Forward as u8
    }
}
