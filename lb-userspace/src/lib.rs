//! Evenkeel: a layer-4 load balancer. See ARCHITECTURE.md.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod desired;
pub mod health;
pub mod hooks;
pub mod http;
pub mod metrics;
pub mod net;
pub mod program;
pub mod reconcile;
pub mod sched;
pub mod status;
pub mod track;
pub mod vrrp;
