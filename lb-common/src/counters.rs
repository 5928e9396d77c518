//! Per-CPU counter records.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::pod::pod;

/// What one CPU forwarded for one backend. Bytes are those of the frames as they arrived, without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BackendCounters {
    /// From clients.
    pub packets: u64,
    pub bytes: u64,
    /// From the backend, where replies pass the node.
    pub reply_packets: u64,
    pub reply_bytes: u64,
    /// Flows that entered the flow table, and UDP flows that showed their first packet.
    pub new_flows: u64,
}

pod!(BackendCounters = 40 bytes);
