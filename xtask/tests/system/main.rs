//! The real binary on hosts that are network namespaces, with real servers and clients.

mod admission;
mod backends;
mod direct;
mod generic;
mod icmp;
mod methods;
mod mysql;
mod nat;
mod operator;
mod pair;
mod reload;
mod repair;
mod restart;
mod schedulers;
mod support;
mod testbed;
mod tunnel;
mod unit;
mod vrrp;
mod vrrp_bed;
mod vrrp_groups;
mod vrrp_hooks;
mod vrrp_mac;
mod vrrp_repair;
mod vrrp_tracking;
mod ways;
