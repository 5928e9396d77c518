//! `cargo xtask bench`: what is timed.

pub mod busy;
pub mod failover;
pub mod flood;
pub mod packets;
pub mod reload;
