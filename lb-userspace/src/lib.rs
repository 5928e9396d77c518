//! Evenkeel: a layer-4 load balancer. See ARCHITECTURE.md.

pub mod cli;
pub mod config;
pub mod status;
