//! The raw socket that advertisements go out and come in by, bound to one interface.

use std::io::{self, Read};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wire;

/// Bytes, about a thousand small packets: a flood must not push the master's advertisements out.
const RECEIVE_BUFFER: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct AdvertSocket(AsyncFd<Socket>);

impl AdvertSocket {
    /// Must be called inside a tokio runtime.
    pub(super) fn open(interface: &str, index: u32) -> io::Result<Self> {
        let socket = open_raw()?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.join_multicast_v4_n(&wire::GROUP, &InterfaceIndexOrAddress::Index(index))?;
        socket.set_multicast_loop_v4(false)?;
        // The IP header is written by hand, so that its source is the primary address whatever the interface holds.
        socket.set_header_included_v4(true)?;
        // Beyond the host's limit for others; without CAP_NET_ADMIN its usual size will do.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        socket.set_nonblocking(true)?;
        // SAFETY: a Socket owns one open descriptor from its creation to its end, and is moved in here.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(registered?))
    }

    pub(super) async fn readable(&self) {
        // An error here is the runtime going away, which ends the caller too.
        if let Ok(mut ready) = self.0.readable().await {
            ready.retain_ready();
        }
    }

    /// A packet that is there already; `WouldBlock` when there is none.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.try_io(Interest::READABLE, |mut socket| socket.read(buffer)) {
            // The runtime may not have looked since the packet came: after a stall it must still count before a timer.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.0.get_ref().read(buffer),
            result => result,
        }
    }

    pub(super) fn send(&self, packet: &[u8]) -> io::Result<()> {
        let group = SockAddr::from(std::net::SocketAddrV4::new(wire::GROUP, 0));
        self.0.get_ref().send_to(packet, &group).map(drop)
    }
}

/// Fails without `CAP_NET_RAW`.
pub(super) fn open_raw() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(wire::PROTOCOL))))
}
