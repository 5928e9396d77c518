//! VRRP version 3 (RFC 9568) and version 2 (RFC 3768): who holds the virtual addresses.
//!
//! ```text
//!            adverts                      wanted (hold? which?)
//! network ◄─ channels ─► driver ── machine ──────────────────► keeper ──► addresses, routes, announcements
//!                       ▲  │                interface up/down     │
//!                       │  └──────────────◄─────────────────────  ├──► guard process (outlives us)
//!        daemon: reconfigure, failover, stop, snapshot, events     └──► netlink
//! ```
//!
//! A group of instances has one state: one `machine` with a channel for each instance and family, on a thread of its own,
//! `driver`, for adverts and timers; one `keeper` for all has netlink, so that an
//! advert never waits for the kernel's routing lock. Both are level-triggered on each other's latest word.

mod actions;
mod backup;
mod channel;
mod driver;
pub mod guard;
mod handle;
pub mod keeper;
mod log;
pub mod machine;
mod realtime;
mod reason;
mod report;
mod socket;
mod thing;
pub mod wire;

#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod simulation;

pub use handle::{Event, Failover, FailoverError, Handle, StartError, spawn};
pub use keeper::Keeper;
pub use reason::Reason;
pub use report::not_started;
