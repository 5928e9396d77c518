//! One map a file, private to it, with typed functions around it. Names are what user space and `bpftool` see.

pub(crate) mod addresses;
pub(crate) mod backends;
pub(crate) mod clients;
pub(crate) mod counters;
pub(crate) mod decap;
pub(crate) mod flows;
pub(crate) mod fragments;
pub(crate) mod half_open;
pub(crate) mod hops;
pub(crate) mod interfaces;
pub(crate) mod listeners;
pub(crate) mod load;
pub(crate) mod members;
pub(crate) mod persistent;
pub(crate) mod pools;
pub(crate) mod programs;
pub(crate) mod quic;
pub(crate) mod rates;
pub(crate) mod reasons;
pub(crate) mod refuse;
pub(crate) mod scratch;
pub(crate) mod seen;
pub(crate) mod services;
pub(crate) mod sources;
pub(crate) mod stations;
pub(crate) mod tables;
pub(crate) mod turns;

/// `BPF_F_MMAPABLE`: user space reads and writes the map in its own memory.
const MAPPED: usize = 1 << 10;
