//! The one entrance for developers, and the test bed that the demo and the system tests stand on.

// They panic where nobody reads; `shell::tell` and `shell::complain` do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod build;
pub mod demo;
pub mod fuzz;
pub mod interrupt;
pub mod lint;
pub mod setup;
pub mod shell;
/// What the daemon says of itself; the same source as the daemon's.
#[path = "../../lb-userspace/src/status.rs"]
pub mod status;
pub mod test;
pub mod testbed;
#[path = "../../lb-userspace/build/toolchain.rs"]
pub mod toolchain;
pub mod workspace;
