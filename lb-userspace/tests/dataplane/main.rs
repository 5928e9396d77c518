//! The real program on real frames, by `BPF_PROG_TEST_RUN`. Packets in and out are written by etherparse.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what cannot go on has failed")]

mod budget;
mod datagram;
mod decap;
mod dual;
mod echo;
mod expiry;
mod extensions;
mod fixture;
mod flows;
mod fragments;
mod icmp_error;
mod malformed;
mod mss;
mod nat;
mod opening;
mod packet;
mod redirect;
mod reload;
mod reset;
mod tables;
mod too_big;
mod tunnel;
mod vlan;
