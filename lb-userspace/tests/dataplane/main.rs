//! The real program on real frames, by `BPF_PROG_TEST_RUN`. Packets in and out are written by etherparse.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what cannot go on has failed")]

mod admission;
mod budget;
mod capped;
mod datagram;
mod decap;
mod down;
mod dual;
mod echo;
mod expiry;
mod extensions;
mod fixture;
mod flows;
mod fragments;
mod full_nat;
mod halves;
mod icmp_error;
mod listening;
mod malformed;
mod methods;
mod mss;
mod nat;
mod opening;
mod packet;
mod per_packet;
mod persistence;
mod quic;
mod redirect;
mod reload;
mod reset;
mod schedulers;
mod stateless;
mod strangers;
mod tables;
mod too_big;
mod tunnel;
mod tunnels;
mod vlan;
mod world;
