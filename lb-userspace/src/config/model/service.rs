//! A service: where it listens, and how it is forwarded.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{Backend, Check, Prefix};

/// What clients connect to, and how it is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    /// Never empty.
    pub listen: BTreeSet<Listen>,
    pub protocol: Protocol,
    pub forward: Forward,
    pub scheduler: Scheduler,
    /// Every datagram is scheduled by itself and leaves no flow; `udp` only.
    pub per_packet: bool,
    pub down: OnDown,
    /// How long the flows of a backend that leaves go on, 1 s to 7 days; `None`: until they end.
    pub drain: Option<Duration>,
    pub persistence: Option<Persistence>,
    pub limits: Limits,
    /// When not empty, the only sources that are served. The longest prefix of this and `deny` decides.
    pub allow: Vec<Prefix>,
    /// Sources that are not served. No prefix is in `allow` too.
    pub deny: Vec<Prefix>,
    /// Bytes that the MSS of a SYN and its answer is lowered to, 536 to 9,000; `nat` and `fullnat` of TCP only.
    pub mss: Option<u16>,
    /// `udp` only. With it every backend has a [`Backend::quic_id`], without it none has.
    pub quic: Option<Quic>,
    /// `None`: backends are taken to be up.
    pub check: Option<Check>,
    /// Never empty; in the order written, which `failover` and `overflow` go by.
    pub backends: Vec<Backend>,
}

/// An address of a service, and one or more of its ports.
///
/// Of one address and protocol, a single port may lie inside a range, and then wins; ranges do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    pub address: IpAddr,
    pub ports: Ports,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.ports),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.ports),
        }
    }
}

/// Ports from `first` to `last`, both included; 0 is not a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
}

impl Ports {
    pub const ALL: Self = Self { first: 1, last: u16::MAX };

    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The port, when there is only one.
    #[must_use]
    pub const fn single(self) -> Option<u16> {
        if self.first == self.last { Some(self.first) } else { None }
    }

    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// As a configuration writes them.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.single()) {
            (Self::ALL, _) => f.write_str("*"),
            (_, Some(port)) => write!(f, "{port}"),
            (Self { first, last }, None) => write!(f, "{first}-{last}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// The forwarding method and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    Nat,
    Direct,
    Tunnel(Tunnel),
    FullNat(FullNat),
}

impl Forward {
    #[must_use]
    pub const fn method(&self) -> ForwardingMethod {
        match self {
            Self::Nat => ForwardingMethod::Nat,
            Self::Direct => ForwardingMethod::Direct,
            Self::Tunnel(_) => ForwardingMethod::Tunnel,
            Self::FullNat(_) => ForwardingMethod::FullNat,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardingMethod {
    /// Destination rewritten; replies come back through the node.
    Nat,
    /// Source and destination rewritten; replies come back to the node by themselves.
    FullNat,
    /// Wrapped in another packet; replies go straight to the client.
    Tunnel,
    /// Only the MAC address rewritten (LVS-DR); replies go straight to the client.
    Direct,
}

impl ForwardingMethod {
    /// Whether the backend receives another port than the client wrote, if one is configured.
    #[must_use]
    pub const fn rewrites_port(self) -> bool {
        matches!(self, Self::Nat | Self::FullNat)
    }

    /// As a configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::FullNat => "fullnat",
            Self::Tunnel => "tunnel",
            Self::Direct => "direct",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tunnel {
    pub encapsulation: Encapsulation,
    pub source: TunnelSource,
}

/// What is between the outer IP header, of the backend's family, and the client's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encapsulation {
    /// Nothing (RFC 2003, 2473, 4213).
    #[default]
    Ip,
    /// UDP to this port, and GUE (draft-ietf-intarea-gue).
    Gue { port: u16 },
}

/// Where the outer source address is taken from, varied by flow, so that the backend's NIC spreads flows over its
/// queues. `None`: the node's own address on the way to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelSource {
    pub ipv4: Option<Prefix>,
    pub ipv6: Option<Prefix>,
}

/// Where the source address and port that a backend sees are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullNat {
    /// Addresses of this node that nothing else uses: 1 to 16 of each family that the service listens on, in the order
    /// written.
    pub sources: Vec<IpAddr>,
    pub ports: Ports,
}

/// How a new flow picks its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Scheduler {
    /// Consistent hash of the 5-tuple, the same on both nodes of a pair.
    #[default]
    Maglev,
    /// The same of the source address alone.
    SourceHash,
    RoundRobin,
    /// Smooth weighted round robin.
    Weighted,
    /// The fewest active flows for its weight.
    LeastConn,
    /// The first backend, in the order written, that is up.
    Failover,
    /// The first backend, in the order written, that is below its limit.
    Overflow,
    Random,
}

impl Scheduler {
    /// As a configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Maglev => "maglev",
            Self::SourceHash => "source-hash",
            Self::RoundRobin => "round-robin",
            Self::Weighted => "weighted",
            Self::LeastConn => "least-conn",
            Self::Failover => "failover",
            Self::Overflow => "overflow",
            Self::Random => "random",
        }
    }
}

/// What becomes of the TCP flows of a backend that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnDown {
    /// The client is sent a RST.
    #[default]
    Reset,
    /// They go to another backend, which knows nothing of them.
    Rehash,
}

/// Clients of one prefix stay with one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// After the last new flow, 1 s to 7 days.
    pub timeout: Duration,
    /// Length of the prefix that IPv4 clients have in common, 1 to 32.
    pub ipv4_prefix: u8,
    /// Length of the prefix that IPv6 clients have in common, 1 to 128.
    pub ipv6_prefix: u8,
}

/// New flows beyond these are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Of the whole service.
    pub new_flows: Option<Rate>,
    /// Of each source: an IPv4 address or an IPv6 /64.
    pub new_flows_per_source: Option<Rate>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// New flows a second, 1 to 10,000,000.
    pub per_second: u32,
    /// New flows at once after a pause, 1 to 10,000,000.
    pub burst: u32,
}

/// Connection ids of QUIC name the backend (draft-ietf-quic-load-balancers, unencrypted): the server id follows the
/// first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quic {
    /// Length of a server id in bytes, 1 to 8.
    pub id_length: u8,
}
