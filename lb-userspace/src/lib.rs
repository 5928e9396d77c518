//! Evenkeel: a layer-4 load balancer. See ARCHITECTURE.md.

pub mod bpf_objects;
pub mod config;
pub mod dataplane;
pub mod sched;
pub mod status;
