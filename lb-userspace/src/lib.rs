//! Evenkeel: a layer-4 load balancer. See ARCHITECTURE.md.

pub mod config;
pub mod net;
pub mod status;
pub mod vrrp;
