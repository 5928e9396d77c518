//! A UDP client: one datagram, one answer, each from a port of its own.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

use super::load::Client;

/// The answer is the datagram that comes back.
#[derive(Debug)]
pub struct UdpClient {
    address: SocketAddr,
}

impl UdpClient {
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }
}

impl Client for UdpClient {
    fn ask(&mut self) -> Result<String> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("bind")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        // Connected: an answer from another address is not taken.
        socket.connect(self.address).context("connect")?;
        socket.send(b"who is there?").context("send")?;
        let mut answer = [0; 2048];
        let length = socket.recv(&mut answer).context("receive")?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }
}
