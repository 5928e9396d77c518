//! A UDP client: one datagram, one answer, each from a port of its own.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::Client;

/// The answer is the datagram that comes back, without the white space around it.
#[derive(Debug)]
pub struct UdpClient {
    address: SocketAddr,
    length: usize,
}

impl UdpClient {
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, length: 13 }
    }

    /// Sends datagrams of so many bytes, and fails if the answers are shorter.
    #[must_use]
    pub fn of_length(self, length: usize) -> Self {
        Self { length, ..self }
    }
}

impl Client for UdpClient {
    fn ask(&mut self) -> Result<String> {
        let any = if self.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).context("bind")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        // Connected: an answer from another address is not taken.
        socket.connect(self.address).context("connect")?;
        socket.send(&vec![b'?'; self.length]).context("send")?;
        let mut answer = vec![0; 65_535];
        let length = socket.recv(&mut answer).context("receive")?;
        ensure!(length >= self.length, "{length} bytes came back of {}", self.length);
        Ok(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
    }
}
