//! `cargo xtask bench`: what is timed.

pub mod flood;
pub mod packets;
pub mod reload;
