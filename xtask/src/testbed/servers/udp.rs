//! A UDP service that answers each datagram with the name of its host, and spaces up to the datagram's length.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::testbed::Host;

/// Ends when dropped.
#[derive(Debug)]
pub struct UdpNames {
    stop: Arc<AtomicBool>,
}

impl UdpNames {
    /// Listens on an address of the host, as `ADDRESS:PORT`; answers come from there.
    ///
    /// # Errors
    /// The host has no such address.
    pub fn start(host: &Host, address: &str) -> Result<Self> {
        let socket =
            host.enter(|| UdpSocket::bind(address).with_context(|| format!("cannot bind {address}")))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped) = (host.name().to_owned(), stop.clone());
        thread::spawn(move || {
            let mut datagram = [0; 65_535];
            while !stopped.load(Ordering::Relaxed) {
                // No datagram within the time limit is no error, and a client that is gone is none of a server's.
                if let Ok((length, client)) = socket.recv_from(&mut datagram) {
                    let _ = socket.send_to(format!("{name:<length$}").as_bytes(), client);
                }
            }
        });
        Ok(Self { stop })
    }
}

impl Drop for UdpNames {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
