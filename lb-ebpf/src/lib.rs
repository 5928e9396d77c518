//! Evenkeel's data plane: one pass over the packet, from parse to transmit.
//!
//! ```text
//! parse ─► flow table ─ hit ─► forward half: backend ─► rewrite ─► transmit
//!             │                reply half:   client  ─► rewrite ─► transmit
//!             └─ miss ─► service ─► half-open table, scheduler ─► store ─► rewrite ─► transmit
//! ```
//!
//! Flow first, service only on a miss. Everything is inlined into one program: a call costs more than the code.

#![no_std]

pub mod balance;
pub mod decap;
mod forward;
mod icmp_error;
mod maps;
mod miss;
mod packet;
pub mod tables;
mod too_big;
mod transmit;
