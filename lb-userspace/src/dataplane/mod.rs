//! The XDP program as user space handles it: load, pin, adopt, attach; typed handles to its maps.
//!
//! The daemon's task owns a [`DataPlane`] and is the only writer of services, backends and tables. The flow tables are
//! handed to a thread of its own ([`sweep`]), which lets flows expire and counts them.

pub mod attach;
mod batch;
pub mod clock;
mod decap;
pub mod expiry;
pub mod flow_table;
mod load;
pub mod maps;
pub mod object;
pub mod packet;
pub mod probe;
mod programs;
pub mod refuse;
mod sizes;
pub mod sweep;
mod tables;

pub use decap::Decap;
pub use load::{DataPlane, LoadError};
pub use sizes::Sizes;
