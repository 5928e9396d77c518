//! What Evenkeel's XDP program and its user space share: map layouts, reasons, checksum arithmetic, the flow hash.
//!
//! Every layout derives zerocopy's `IntoBytes`, which refuses padding at compile time: a padded map key would compare
//! bytes nobody wrote. Addresses and ports are kept in network order, as they are on the wire.

#![cfg_attr(not(test), no_std)]

pub mod addr;
pub mod backend;
pub mod checksum;
pub mod counters;
pub mod decap;
pub mod extent;
pub mod flow;
pub mod hash;
pub mod limits;
mod pod;
pub mod programs;
pub mod reason;
pub mod service;
pub mod station;
pub mod timed;
