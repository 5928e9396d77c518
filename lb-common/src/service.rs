//! Services: what a flow's first packet is looked up by, and how its service is forwarded.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Addr, Address, V4};
use crate::limits;
use crate::pod::pod;

/// A listen address. Port 0 stands for ranges of ports.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ListenerKey4 {
    pub address: V4,
    /// Network order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    pub zero: u8,
}

/// As [`ListenerKey4`], for IPv6.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ListenerKey6 {
    pub address: Addr,
    pub port: u16,
    pub protocol: u8,
    pub zero: u8,
}

/// What a listen address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Listener {
    /// Number of the service; under port 0, of a record of [`Ranges`].
    pub number: u32,
}

/// A listen address where a SYN finds it by one look, as most of them can be; user space writes it. A place is given to one
/// listen address only, from one start of user space to the next: so nobody reads half of one and half of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Near {
    pub address: Addr,
    /// Network order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    pub zero: u8,
    /// [`Listener::number`] plus one; 0: there is none.
    pub number: u32,
}

/// Where a listen address has its place, of [`limits::NEAR`].
#[inline(always)]
#[must_use]
pub fn near<A: Address>(address: A, port: u16, protocol: u8) -> u32 {
    let seed = u64::from(protocol) << 16 | u64::from(port);
    (A::mix(address, address, seed) >> 32) as u32 & (limits::NEAR - 1)
}

/// Ranges of ports of one address and protocol, none of which overlap. A range of zeros is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ranges {
    pub ranges: [Range; RANGES],
}

pub const RANGES: usize = 16;

/// First and last port in the machine's byte order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Range {
    pub first: u16,
    pub last: u16,
    pub service: u32,
}

/// How packets of one service, of one family, are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Service {
    /// Index of the table of backends, or [`NO_TABLE`] while no backend takes new flows.
    pub table: u32,
    /// The table in force before the last change, or [`NO_TABLE`]. A connection whose SYN was forwarded by it without
    /// leaving state is still known by it when its next packet comes.
    pub previous: u32,
    /// A [`Method`] as integer.
    pub method: u8,
    /// A [`Scheduler`] as integer.
    pub scheduler: u8,
    /// [`RESET`] and the bits after it.
    pub flags: u16,
    /// Largest segment that SYNs may announce, bytes; 0 leaves them.
    pub mss: u16,
    /// Bits of a source address that persistence goes by, counted in a mapped address: 96 more for IPv4.
    pub persistence_prefix: u8,
    /// Bytes of a QUIC server id.
    pub quic_length: u8,
    /// Jiffies that a source stays with its backend; 0 for no persistence.
    pub persistence: u32,
    /// New flows of the service, and of one source.
    pub rate: Rate,
    pub source_rate: Rate,
    /// Index of the record of source addresses of `fullnat`.
    pub sources: u32,
    /// Jiffies that a half-open flow lasts.
    pub half_open: u32,
    pub zero: [u32; 5],
}

/// A token bucket. Tokens are counted in 65,536ths of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rate {
    /// Tokens a jiffy; 0 for no limit.
    pub per_jiffy: u32,
    /// Flows at once.
    pub burst: u32,
}

/// State of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bucket {
    /// In 65,536ths of a flow.
    pub tokens: u64,
    /// Jiffies of the last packet that was counted.
    pub last: u32,
    pub zero: u32,
}

/// Backends of a service one by one, in the order of the configuration: for `least-conn` with few backends, and `overflow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct Members {
    pub count: u16,
    pub backends: [u16; MEMBERS],
}

pub const MEMBERS: usize = 63;
/// `least-conn` looks at all backends up to this many, and at two chosen at random from there on.
pub const FEW: u16 = 16;

/// Source addresses that `fullnat` gives to flows of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sources {
    pub addresses: [Addr; SOURCES],
    pub count: u32,
    /// First port and number of ports, in the machine's byte order.
    pub first_port: u16,
    pub ports: u16,
}

pub const SOURCES: usize = 16;

/// Whom a service was told about: prefix of a source address, in a map of longest prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SourceKey {
    pub service: u32,
    pub address: Addr,
}

pub const SOURCE_ALLOWED: u32 = 1;
pub const SOURCE_DENIED: u32 = 2;

/// One source, or its prefix, of one service: key of persistence and of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClientKey {
    pub address: Addr,
    pub service: u32,
}

/// The backend that a source stays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Persistent {
    pub backend: u32,
    pub identity: u32,
    /// Jiffies of the last new flow.
    pub last: u32,
}

/// A server id of a QUIC connection id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuicKey {
    /// The id, then zeros.
    pub id: [u8; 8],
    pub service: u32,
}

pod!(
    ListenerKey4 = 8 bytes,
    ListenerKey6 = 20 bytes,
    Listener = 4 bytes,
    Near = 24 bytes,
    Ranges = 128 bytes,
    Service = 64 bytes,
    Rate = 8 bytes,
    Bucket = 16 bytes,
    Members = 128 bytes,
    Sources = 264 bytes,
    SourceKey = 20 bytes,
    ClientKey = 20 bytes,
    Persistent = 12 bytes,
    QuicKey = 12 bytes,
);

pub const NO_TABLE: u32 = u32::MAX;

/// Flows of a backend that goes down are reset; else they go to another one.
pub const RESET: u16 = 1;
/// Flows of this service may be elsewhere than its table says: a SYN must ask the flow table.
pub const MOVED: u16 = 1 << 1;
/// Every packet is scheduled by itself.
pub const PER_PACKET: u16 = 1 << 2;
/// Sources are looked up in the lists of who is allowed and who is not.
pub const LISTS: u16 = 1 << 3;
/// Who is on no list is denied.
pub const DENY_OTHERS: u16 = 1 << 4;
/// Some backend has a limit of flows.
pub const CAPPED: u16 = 1 << 5;

/// A SYN of this service is decided by its table, and leaves no state: hash scheduler, `tunnel` or `direct`, and nothing of
/// what else may be asked of a service.
pub const STATELESS: u16 = 1 << 6;

/// Forwarding method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Method {
    /// Destination rewritten; replies come back through the node.
    Nat = 1,
    /// Wrapped in an IP packet of its own.
    Tunnel = 2,
    /// Only the MAC addresses rewritten.
    Direct = 3,
    /// Source and destination rewritten; replies come back to an address of the node.
    FullNat = 4,
}

impl Method {
    pub const NAT: u32 = Self::Nat as u32;
    pub const TUNNEL: u32 = Self::Tunnel as u32;
    pub const DIRECT: u32 = Self::Direct as u32;
    pub const FULL_NAT: u32 = Self::FullNat as u32;

    #[inline(always)]
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Nat),
            2 => Some(Self::Tunnel),
            3 => Some(Self::Direct),
            4 => Some(Self::FullNat),
            _ => None,
        }
    }
}

/// How the data plane picks an entry of the service's table, or goes about it otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scheduler {
    /// By the hash of the 5-tuple.
    Flow = 0,
    /// By the hash of the source address.
    Source = 1,
    /// One entry after another.
    Turn = 2,
    /// A random entry.
    Random = 3,
    /// The least loaded for its weight of [`Members`], or of two random entries.
    LeastConnections = 4,
    /// The first of [`Members`] that is not full.
    Overflow = 5,
}

impl Scheduler {
    /// Whether the same packet always gets the same backend while the table stays.
    #[inline(always)]
    #[must_use]
    pub const fn is_hash(value: u8) -> bool {
        value <= Self::Source as u8
    }
}
