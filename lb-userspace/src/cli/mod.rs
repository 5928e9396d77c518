//! What each command prints and does: one room a command.

pub mod status;
pub mod units;
