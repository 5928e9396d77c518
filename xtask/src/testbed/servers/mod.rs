//! Real servers from Debian's packages, each on a host of its own.

pub mod keepalived;
pub mod mariadb;
pub mod nginx;

pub use keepalived::Keepalived;
pub use mariadb::MariaDb;
pub use nginx::Nginx;
