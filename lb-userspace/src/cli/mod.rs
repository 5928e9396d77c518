//! What each command takes, prints and does: one file or folder a command.

pub mod apply;
pub mod asked;
pub mod check;
pub mod decap;
pub mod failover;
pub mod status;
pub mod take;
pub mod units;
