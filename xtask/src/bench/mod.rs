//! `cargo xtask bench`: what is timed.

pub mod packets;
