//! One map a file, private to it, with typed functions around it. Names are what user space and `bpftool` see.

pub(crate) mod backends;
pub(crate) mod counters;
pub(crate) mod decap;
pub(crate) mod flows;
pub(crate) mod half_open;
pub(crate) mod interfaces;
pub(crate) mod maglev;
pub(crate) mod reasons;
pub(crate) mod services;
pub(crate) mod stations;
