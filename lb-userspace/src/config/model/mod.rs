//! The configuration as the rest of the program sees it: typed, complete, always valid.
//!
//! Only [`super::parse`] makes one, so nothing downstream checks again.

mod backend;
mod service;
mod vrrp;

use std::net::SocketAddr;
use std::time::Duration;

pub use backend::{Admin, Backend, Check, CheckKind, ConnectionLimit};
pub use service::{
    Encapsulation, Forward, ForwardingMethod, FullNat, Limits, Listen, OnDown, Persistence, Ports, Protocol,
    Quic, Rate, Scheduler, Service, Tunnel, TunnelSource,
};
pub use vrrp::{
    Authentication, Checksum, Effect, HookScript, Hooks, Instance, Key, Preempt, Prefix, Priority, Route,
    Rule, Scope, Script, Secret, Subject, Track, Unicast, Version, VirtualAddress, Vrid,
};

/// Everything one node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of this node in status, logs and metrics. Default: the host name.
    pub node: String,
    /// Where XDP runs, in the order written.
    pub interfaces: Vec<Interface>,
    pub metrics: Option<Metrics>,
    pub vrrp: Vec<Instance>,
    pub hooks: Hooks,
    pub flows: Flows,
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

/// What the tables of flows hold, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flows {
    /// Entries of the table of IPv4 flows, 1,024 to 16,777,216.
    pub ipv4: u32,
    /// Entries of the table of IPv6 flows, 1,024 to 16,777,216.
    pub ipv6: u32,
    pub timeouts: Timeouts,
}

impl Default for Flows {
    fn default() -> Self {
        Self { ipv4: 1 << 20, ipv6: 1 << 18, timeouts: Timeouts::default() }
    }
}

/// How long a flow is kept after its last packet, by what that packet left it in; each 1 s to 7 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub established: Duration,
    pub fin_wait: Duration,
    pub close_wait: Duration,
    pub time_wait: Duration,
    /// After a RST.
    pub close: Duration,
    /// Between the SYN and the handshake's end.
    pub syn_recv: Duration,
    pub udp: Duration,
}

/// Those of IPVS: `tcp_timeouts` and `udp_timeouts` in the kernel's `net/netfilter/ipvs/ip_vs_proto_{tcp,udp}.c`.
impl Default for Timeouts {
    fn default() -> Self {
        Self {
            established: Duration::from_secs(15 * 60),
            fin_wait: Duration::from_secs(2 * 60),
            close_wait: Duration::from_secs(60),
            time_wait: Duration::from_secs(2 * 60),
            close: Duration::from_secs(10),
            syn_recv: Duration::from_secs(60),
            udp: Duration::from_secs(5 * 60),
        }
    }
}
