//! The real program on real frames, by `BPF_PROG_TEST_RUN`. Packets in and out are written by etherparse.

mod budget;
mod fixture;
mod flows;
mod nat;
mod opening;
mod packet;
mod tunnel;
