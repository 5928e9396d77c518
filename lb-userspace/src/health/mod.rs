//! Health checks: which backends serve.
//!
//! ```text
//! wanted checks ──► driver ──(probe)──► backend
//!                     │ Report
//!                     ▼
//!                  the daemon ──► machine (one a backend) ──► Transition
//! ```

pub mod driver;
pub mod machine;
pub mod probe;

use std::net::SocketAddr;
use std::time::Duration;

pub use driver::Prober;
pub use machine::{Machine, State, Transition};
pub use probe::ProbeError;

/// A backend in a service: the same server in two services is checked for each, as their checks may differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeKey {
    pub service: String,
    pub backend: SocketAddr,
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub key: ProbeKey,
    pub result: Result<(), ProbeError>,
    /// From the first packet to the verdict; time spent waiting for a turn is not in it.
    pub took: Duration,
}
