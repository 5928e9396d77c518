//! What rows of packets can't show, of the real program by `BPF_PROG_TEST_RUN`: random packets against a plain model,
//! broken ones, several CPUs at once, floods, and what a flow takes up.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what cannot go on has failed")]

mod flood;
mod frames;
mod fuzz;
mod fuzz_vrrp;
mod memory;
mod model;
mod ports;
mod race;
mod random;
mod runner;
mod siege;
mod world;
