//! Clients, on a host, that count what they see.

pub mod http;
pub mod load;
pub mod mysql;
pub mod udp;

pub use http::{Connections, Download, HttpClient};
pub use load::{Client, Load, Report};
pub use mysql::{MySqlClient, MySqlSession};
pub use udp::UdpClient;
