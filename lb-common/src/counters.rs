//! Per-CPU counter records.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::pod::pod;

/// What one CPU forwarded for one backend, both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BackendCounters {
    pub packets: u64,
    /// Bytes of the frames as they arrived, without padding.
    pub bytes: u64,
    /// Flows that entered the flow table, and UDP flows that entered the half-open table.
    pub new_flows: u64,
}

pod!(BackendCounters = 24 bytes);
