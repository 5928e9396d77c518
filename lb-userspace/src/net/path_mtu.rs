//! Has the kernel learn the path MTU towards tunnel backends, which [`super::next_hop`] then reads of their routes.
//!
//! What a router on the way says of a tunnel packet that is too big goes to the node, the outer source. The kernel takes
//! it to the route only if somebody has to do with the protocol that is quoted: a raw socket is enough (`raw_err` in
//! net/ipv4/raw.c, `rawv6_err` in net/ipv6/raw.c). These sockets receive nothing.

use std::collections::BTreeSet;
use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::config::model::{Config, Encapsulation, Forward};

/// IP protocols by number.
pub const IPV4: i32 = 4;
pub const IPV6: i32 = 41;
pub const UDP: i32 = 17;

/// Sockets for the protocols that tunnels of the configuration go by.
#[derive(Debug, Default)]
pub struct PathMtu {
    protocols: BTreeSet<i32>,
    sockets: Vec<Socket>,
}

impl PathMtu {
    /// Opens what is needed now and closes the rest; changes nothing if it can't.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn follow(&mut self, config: &Config) -> io::Result<()> {
        self.listen(protocols(config))
    }

    /// As [`Self::follow`], for packets of these IP protocols.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn listen(&mut self, protocols: BTreeSet<i32>) -> io::Result<()> {
        if protocols != self.protocols {
            let families = [Domain::IPV4, Domain::IPV6];
            let pairs = protocols.iter().flat_map(|protocol| families.map(|family| (family, *protocol)));
            self.sockets =
                pairs.map(|(family, protocol)| open(family, protocol)).collect::<Result<_, _>>()?;
            self.protocols = protocols;
        }
        Ok(())
    }
}

fn protocols(config: &Config) -> BTreeSet<i32> {
    let tunnels = config.services.iter().filter_map(|service| match &service.forward {
        Forward::Tunnel(tunnel) => Some(tunnel.encapsulation),
        Forward::Nat | Forward::FullNat(_) | Forward::Direct => None,
    });
    tunnels
        .flat_map(|encapsulation| match encapsulation {
            Encapsulation::Ip => vec![IPV4, IPV6],
            Encapsulation::Gue { .. } => vec![UDP],
        })
        .collect()
}

fn open(family: Domain, protocol: i32) -> io::Result<Socket> {
    let socket = Socket::new(family, Type::RAW, Some(Protocol::from(protocol)))?;
    // `ret 0`: nothing is let through.
    socket.attach_filter(&[SockFilter::new(libc::BPF_RET as u16, 0, 0, 0)])?;
    if family == Domain::IPV6 {
        // Else `rawv6_err` passes over a socket without a peer. What nobody reads of the error queue fills the least of
        // buffers.
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        socket.set_recv_buffer_size(1)?;
    }
    Ok(socket)
}
