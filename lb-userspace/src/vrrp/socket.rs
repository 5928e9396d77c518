//! The sockets that a channel's advertisements go out and come in by, on one interface.

use std::io::{self, IoSliceMut, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wire::{self, Family, Meta};
use crate::config::model::Vrid;
use crate::net::announce::FrameSocket;

/// Bytes, about a thousand small packets: a flood must not push the master's advertisements out.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Where a channel's packets leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    /// The interface itself, not the one of a virtual MAC address.
    pub(super) index: u32,
    /// What frames come from.
    pub(super) mac: [u8; 6],
    /// Of the interface itself.
    pub(super) own_mac: [u8; 6],
    /// Bytes of the largest IP packet.
    pub(super) mtu: usize,
    pub(super) primary: IpAddr,
}

#[derive(Debug)]
pub(super) struct AdvertSocket {
    family: Family,
    receiver: AsyncFd<Socket>,
    sender: Sender,
    exit: Exit,
    /// Of the next message that is sent in fragments.
    identification: u32,
}

#[derive(Debug)]
enum Sender {
    /// Whole frames: what leaves has the right MAC address, also before an interface of its own has it.
    Frames(FrameSocket),
    /// By the kernel's routes, but by no other interface.
    Packets(Socket),
}

impl AdvertSocket {
    /// Must be called inside a tokio runtime.
    pub(super) fn open(exit: Exit, vrid: Vrid, unicast: bool) -> io::Result<Self> {
        let family = Family::of(exit.primary);
        let receiver = open_on(family, exit.index)?;
        // What other virtual routers send wakes nobody: with hundreds of them on one network that would be all there is to do.
        receiver.attach_filter(&only(family, vrid))?;
        if !unicast {
            join(&receiver, family, exit.index)?;
        }
        if family == Family::V6 {
            setsockopt(&receiver, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&receiver, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        // Beyond the host's limit for others; without CAP_NET_ADMIN its usual size will do.
        let _ = setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        let sender = if unicast {
            Sender::Packets(open_unicast_sender(&exit)?)
        } else {
            Sender::Frames(FrameSocket::open()?)
        };
        // SAFETY: a Socket owns one open descriptor from its creation to its end, and is moved in here.
        let receiver = unsafe { AsyncFd::register_with_interest(receiver, Interest::READABLE) }?;
        Ok(Self { family, receiver, sender, exit, identification: 0 })
    }

    pub(super) fn exit(&self) -> &Exit {
        &self.exit
    }

    /// Ready when there may be a packet.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // An error here is the runtime going away, which ends the caller too.
        if let Ok(mut ready) = ready!(self.receiver.poll_read_ready(context)) {
            ready.retain_ready();
        }
        Poll::Ready(())
    }

    /// A packet that is there already: what IP told of it, and its payload; `None`: no IP packet.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub(super) fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<(Meta, &'b [u8])>> {
        match self.family {
            Family::V4 => {
                let length = self.read(|mut socket| socket.read(buffer))?;
                Ok(wire::split(&buffer[..length]).ok())
            }
            Family::V6 => {
                let (length, meta) = self.read(|socket| receive_v6(socket, buffer))?;
                Ok(meta.map(|meta| (meta, &buffer[..length])))
            }
        }
    }

    fn read<T>(&self, mut read: impl FnMut(&Socket) -> io::Result<T>) -> io::Result<T> {
        match self.receiver.try_io(Interest::READABLE, &mut read) {
            // The runtime may not have looked since the packet came: after a stall it must still count before a timer.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => read(self.receiver.get_ref()),
            result => result,
        }
    }

    /// To the multicast group. Until the addresses are there frames come from the interface's own MAC address, against RFC
    /// 9568 section 7.2: from the virtual one, a switch would send everything here at once, while the last master still
    /// serves. A raw socket does not tell a receiver.
    pub(super) fn send_to_group(&mut self, message: &[u8], holding: bool) -> io::Result<()> {
        let Sender::Frames(socket) = &self.sender else { return Err(io::ErrorKind::Unsupported.into()) };
        self.identification = self.identification.wrapping_add(1);
        let Exit { index, mac, own_mac, mtu, primary } = self.exit;
        let mac = if holding { mac } else { own_mac };
        for frame in wire::frames(mac, mtu, primary, message, self.identification) {
            socket.send(index, &frame)?;
        }
        Ok(())
    }

    pub(super) fn send_to_peer(&self, peer: IpAddr, message: &[u8]) -> io::Result<()> {
        let Sender::Packets(socket) = &self.sender else { return Err(io::ErrorKind::Unsupported.into()) };
        match (self.exit.primary, peer) {
            (IpAddr::V4(source), IpAddr::V4(peer)) => {
                let to = SockAddr::from(SocketAddrV4::new(peer, 0));
                socket.send_to(&wire::packet(source, peer, message), &to).map(drop)
            }
            (IpAddr::V6(_), IpAddr::V6(peer)) => {
                let to = SockAddr::from(SocketAddrV6::new(peer, 0, 0, scope(peer, self.exit.index)));
                socket.send_to(message, &to).map(drop)
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Fails without `CAP_NET_RAW`.
pub(super) fn open_raw(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(wire::PROTOCOL))))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open_on(family: Family, index: u32) -> io::Result<Socket> {
    let socket = open_raw(family)?;
    // The name that it has now, which may have changed since it was configured.
    let name = nix::net::if_::if_indextoname(index)?;
    socket.bind_device(Some(name.as_bytes()))?;
    Ok(socket)
}

fn join(socket: &Socket, family: Family, index: u32) -> io::Result<()> {
    match family {
        Family::V4 => socket.join_multicast_v4_n(&wire::GROUP, &InterfaceIndexOrAddress::Index(index)),
        Family::V6 => socket.join_multicast_v6(&wire::GROUP_V6, index),
    }
}

fn open_unicast_sender(exit: &Exit) -> io::Result<Socket> {
    let socket = open_on(Family::of(exit.primary), exit.index)?;
    match exit.primary {
        // The header is written by hand, so that its source is right whatever the interface holds.
        IpAddr::V4(source) => {
            // An address that this host does not have is refused here.
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            socket.set_header_included_v4(true)?;
        }
        IpAddr::V6(source) => {
            let own = SocketAddrV6::new(source, 0, 0, scope(source, exit.index));
            socket.bind(&SocketAddr::from(own).into())?;
            socket.set_unicast_hops_v6(u32::from(wire::TTL))?;
        }
    }
    // It hears everything of the protocol too, and nobody reads it.
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
    Ok(socket)
}

fn scope(address: Ipv6Addr, index: u32) -> u32 {
    if address.is_unicast_link_local() { index } else { 0 }
}

const LOAD_HEADER_LENGTH: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const LOAD_BYTE_BEHIND_IT: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Lets through what has this VRID in its second byte. A raw socket's filter sees the IP header of IPv4 and not that of
/// IPv6 (raw_rcv and rawv6_rcv in the kernel's net/ipv4/raw.c and net/ipv6/raw.c).
fn only(family: Family, vrid: Vrid) -> Vec<SockFilter> {
    let load = match family {
        Family::V4 => {
            vec![SockFilter::new(LOAD_HEADER_LENGTH, 0, 0, 0), SockFilter::new(LOAD_BYTE_BEHIND_IT, 0, 0, 1)]
        }
        Family::V6 => vec![SockFilter::new(LOAD_BYTE, 0, 0, 1)],
    };
    let decide = [
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(vrid.as_u8())),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ];
    load.into_iter().chain(decide).collect()
}

fn receive_v6(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<Meta>)> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let (mut destination, mut ttl) = (None, None);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr))
            }
            ControlMessageOwned::Ipv6HopLimit(limit) => ttl = u8::try_from(limit).ok(),
            _ => {}
        }
    }
    let source = message.address.map(|address| address.ip());
    let meta = source.zip(destination).zip(ttl).map(|((source, destination), ttl)| Meta {
        source: source.into(),
        destination: destination.into(),
        ttl,
    });
    Ok((message.bytes, meta))
}
