//! What the daemon reads and changes of the host's network, by netlink and packet sockets.

pub mod address;
pub mod announce;
pub mod link;
pub mod next_hop;
pub mod ways;
