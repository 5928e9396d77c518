//! Evenkeel's data plane: one pass over the packet, from parse to transmit.
//!
//! ```text
//! parse ─► flow table ─ hit ─► forward half: backend ─► rewrite ─► transmit
//!             │                reply half:   client  ─► rewrite ─► transmit
//! - - - - - - │ - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - tail call
//!             └─ miss ─► service ─► half-open table, scheduler ─► store ─► rewrite ─► transmit
//! ```
//!
//! Flow first, service only on a miss. The path of a known flow is inlined into one program, for a call costs more than the
//! code; what is rare is in another, so that it takes no registers from that path. IPv6 has a program of its own too.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
pub mod balance;
pub mod clock;
pub mod decap;
mod echo;
mod forward;
mod fragment;
mod globals;
mod icmp_error;
mod maps;
mod miss;
mod mss;
mod outcome;
mod packet;
pub mod refuse;
mod reset;
pub mod tables;
mod too_big;
mod transmit;
mod vlan;

pub use maps::flows::read_slot;
