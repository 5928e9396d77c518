//! What each command takes, prints and does: one room a command.

pub mod check;
pub mod status;
pub mod units;
