//! A backend of a service, and how it is checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub address: IpAddr,
    /// `None`: the port that the client wrote. With `tunnel` and `direct` packets keep the client's port in any case, and
    /// this is the port of the check.
    pub port: Option<u16>,
    /// Share of new flows relative to the other backends; 0 takes no new flow.
    pub weight: u16,
    pub limit: Option<ConnectionLimit>,
    pub admin: Admin,
    /// The server id in QUIC connection ids that lead here: [`super::Quic::id_length`] bytes, once in the service.
    pub quic_id: Option<Vec<u8>>,
}

impl Backend {
    /// Names the backend within its service; port 0 stands for the port that the client wrote.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port.unwrap_or(0))
    }

    /// Where `check` of the backend's service probes it. A service with a check has a port here or there.
    #[must_use]
    pub fn check_address(&self, check: &Check) -> SocketAddr {
        SocketAddr::new(self.address, check.port.or(self.port).unwrap_or(0))
    }
}

/// Active flows of a backend at which it takes no new ones, and at which it does again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Takes no new flow from here on; 1 to 16,777,216.
    pub high: u32,
    /// Takes new flows again below this; 1 to `high`.
    pub low: u32,
}

/// What the operator wants of a backend, whatever its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Admin {
    #[default]
    Active,
    /// No new flows; those it has go on for as long as [`super::Service::drain`] says.
    Drain,
    /// No packets at all; its flows are treated as [`super::Service::down`] says.
    Disabled,
}

/// How a backend is found to be up or down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub kind: CheckKind,
    /// Instead of the backend's.
    pub port: Option<u16>,
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
