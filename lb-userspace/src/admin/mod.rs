//! What the operator wants of backends: by the configuration, or by a command, which stays in force over reloads and
//! restarts until another one takes it back or the backend leaves the configuration.
//!
//! ```text
//! configuration ─┐
//! commands ──────┼──► machine ──► Standing of each backend ──► desired
//! clock ─────────┘       │
//!                        └──► store (file of the commands in force)
//! ```

pub mod machine;
mod name;
pub mod store;

#[cfg(test)]
mod tests;

pub use machine::{Command, Machine, Standing, View};
pub use name::{Name, NameError, resolve, written};
