//! The compiled XDP programs, from the build script.

/// The balancer, and `decap` for backends.
pub static BALANCER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evenkeel-xdp"));
