//! The configuration as the rest of the program sees it: typed, complete, always valid.
//!
//! Only [`super::parse`] makes one, so nothing downstream checks again.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Everything one node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of this node in status, logs and metrics. Default: the host name.
    pub node: String,
    /// Where XDP runs, in the order written.
    pub interfaces: Vec<Interface>,
    pub metrics: Option<Metrics>,
    pub vrrp: Vec<Instance>,
    pub services: Vec<Service>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub mode: XdpMode,
}

/// How the program is attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpMode {
    /// Native where the driver can, generic otherwise.
    #[default]
    Auto,
    Native,
    Generic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Where Prometheus scrapes over HTTP.
    pub listen: SocketAddr,
}

/// One VRRP virtual router on one interface (RFC 9568).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub name: String,
    pub interface: String,
    pub vrid: Vrid,
    pub priority: Priority,
    /// Advertisement interval, 10 ms to 40.95 s, in steps of 10 ms (RFC 9568 section 5.2.7).
    pub advertise: Duration,
    /// Take over from a master of lower priority.
    pub preempt: bool,
    pub addresses: Vec<Prefix>,
}

/// Virtual router identifier, 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(u8);

impl Vrid {
    /// `None` for 0, which RFC 9568 section 5.2.3 leaves out.
    #[must_use]
    pub const fn new(vrid: u8) -> Option<Self> {
        if vrid == 0 { None } else { Some(Self(vrid)) }
    }

    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

/// Priority of a node in an election, 1 to 254; 255 is the owner of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    pub const OWNER: Self = Self(255);

    /// `None` for 0, which only a master that stops sends (RFC 9568 section 5.2.4).
    #[must_use]
    pub const fn new(priority: u8) -> Option<Self> {
        if priority == 0 { None } else { Some(Self(priority)) }
    }

    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

/// An address with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    pub address: IpAddr,
    pub length: u8,
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// What clients connect to, and how it is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub listen: BTreeSet<SocketAddr>,
    pub protocol: Protocol,
    pub forward: ForwardingMethod,
    pub scheduler: Scheduler,
    /// `None`: backends are taken to be up.
    pub check: Option<Check>,
    pub backends: Vec<Backend>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardingMethod {
    /// Destination rewritten; replies come back through the node.
    Nat,
    /// IPIP; replies go straight to the client.
    Tunnel,
    /// Only the MAC address rewritten (LVS-DR); replies go straight to the client.
    Direct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheduler {
    /// Consistent hash of the 5-tuple, the same on both nodes of a pair.
    #[default]
    Maglev,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Port 0 does not occur: with `tunnel` and `direct` it is the port of the service.
    pub address: SocketAddr,
    /// Share of new flows relative to the other backends; 0 takes no new flow.
    pub weight: u16,
}

/// How a backend is found to be up or down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub kind: CheckKind,
    /// From the start of one probe to the start of the next.
    pub every: Duration,
    /// For the whole probe, not for each of its steps.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// The connection is accepted.
    Tcp,
    /// `GET path` is answered with `status`.
    Http { path: String, status: u16, host: Option<String> },
}
