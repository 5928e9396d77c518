//! Servers, each on a host of its own: real ones from Debian's packages, and one that speaks bare UDP.

pub mod keepalived;
pub mod mariadb;
pub mod nginx;
pub mod udp;

pub use keepalived::Keepalived;
pub use mariadb::MariaDb;
pub use nginx::Nginx;
pub use udp::UdpNames;
