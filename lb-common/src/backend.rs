//! A backend of a service, with the next hop packets to it leave by.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Addr;
use crate::checksum::outer_sum;
use crate::pod::pod;

/// Two cache lines: the first is read for every packet, the second for what goes through a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Backend {
    pub address: Addr,
    pub next_hop: NextHop,
    /// Network order; 0: the port that the client wrote.
    pub port: u16,
    /// Largest IP packet the way to the backend takes, bytes.
    pub mtu: u16,
    /// [`SERVING`] and the bits after it.
    pub flags: u32,
    /// Hash of service, address and port, never 0: the same on both nodes, where numbers are not.
    pub identity: u32,
    /// Number of its service on this node.
    pub service: u32,
    /// Share of new flows relative to others, where the scheduler counts.
    pub weight: u32,
    /// Active flows from which on it takes no new ones, 0 for no limit; and how few it must have to take them again.
    pub high: u32,
    pub low: u32,

    /// Outer source of a tunnel, an address of the prefix that packets are spread over.
    pub tunnel_source: Addr,
    /// Bits at the end of `tunnel_source` that vary by flow.
    pub spread: u8,
    /// An [`Encapsulation`] as integer.
    pub encapsulation: u8,
    /// UDP destination port of GUE, network order.
    pub gue_port: u16,
    /// [`outer_sum`] of an outer IPv4 header.
    pub outer_sum: u32,
    pub zero: [u32; 10],
}

impl Backend {
    /// The record with what follows from its addresses and its kind of tunnel: `outer_sum`, [`PLAIN4`] and [`PLAIN6`].
    #[must_use]
    pub fn with_derived(self) -> Self {
        let known = self.tunnel_source != Addr::default();
        let is_v4 = self.address.is_v4();
        let is_plain = known && self.spread == 0 && self.encapsulation == Encapsulation::Ip as u8;
        let plain = if is_v4 { PLAIN4 } else { PLAIN6 };
        Self {
            outer_sum: if known && is_v4 { outer_sum(self.tunnel_source.v4(), self.address.v4()) } else { 0 },
            flags: self.flags & !(PLAIN4 | PLAIN6) | if is_plain { plain } else { 0 },
            ..self
        }
    }
}

/// Where a frame goes.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C, align(4))]
pub struct NextHop {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    /// The interface the frame leaves by; for a VLAN interface the one below it.
    pub ifindex: u32,
    /// VLAN tags the frame carries: see [`tags`].
    pub tags: u32,
}

/// A next hop that replies go to, by number; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Hop {
    pub next: NextHop,
    /// Jiffies when a flow was last given it.
    pub last_used: u32,
    /// 0: free; [`HOP_CLAIMED`]; [`HOP_LIVE`]. Somebody claims it by one compare-and-swap, fills it, and makes it live.
    pub state: u64,
}

pub const HOP_CLAIMED: u64 = 1;
pub const HOP_LIVE: u64 = 2;

/// What the scheduler knows of a backend's load. Active flows are `counted + recent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Load {
    /// Active flows by user space's last count.
    pub counted: u32,
    /// Flows that were given to it since, less those that ended: an i32.
    pub recent: u32,
    /// Not 0: it has reached `high` and not yet come down to `low`.
    pub full: u32,
    pub zero: u32,
}

pod!(Backend = 128 bytes, NextHop = 20 bytes, Hop = 32 bytes, Load = 16 bytes);

/// Flows of this backend may go on: it is up, or it drains.
pub const SERVING: u32 = 1;
/// `next_hop` is filled in.
pub const RESOLVED: u32 = 2;

/// Its tunnel header is the plainest: IPv4, or IPv6, with nothing behind it, and the same source for all flows.
pub const PLAIN4: u32 = 4;
pub const PLAIN6: u32 = 8;

/// How a tunnel wraps a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encapsulation {
    /// RFC 2003, RFC 2473, RFC 4213: IP directly in IP, of whatever families.
    Ip = 0,
    /// Generic UDP Encapsulation, variant 1: IP directly in UDP (draft-ietf-intarea-gue-09 section 4).
    Gue = 1,
}

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
