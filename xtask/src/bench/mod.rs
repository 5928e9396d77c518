//! `cargo xtask bench`: what is timed.

pub mod failover;
pub mod flood;
pub mod packets;
