//! What the daemon reads and changes of the host's network, by netlink and packet sockets.

pub mod address;
pub mod announce;
pub mod known_ways;
pub mod link;
pub mod links;
pub mod netlink;
pub mod next_hop;
pub mod path_mtu;
pub mod route;
pub mod rule;
pub mod sysctl;
mod watched;
pub mod way;
pub mod ways;
