//! From a frame to the 5-tuple and pointers to its headers.

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::flow::{FlowKey, Ports};
use lb_common::reason::Reason;

use super::extensions::is_extension;
use super::{Ethernet, Family, Ipv4, Ipv6, PROTOCOL_TCP, PROTOCOL_UDP, Tcp, Udp, at, holds};

/// A TCP or UDP packet, whole and not a fragment.
///
/// Pointers are fields of their own and never part of an enum: the compiler lays enums over each other, takes pointers
/// apart to do so, and the verifier then no longer knows them.
pub(crate) struct Packet<A: Family> {
    pub(crate) ethernet: *mut Ethernet,
    pub(crate) ip: *mut A::Header,
    /// A whole [`Tcp`] header, or a whole [`Udp`] header if `is_tcp` says no.
    pub(crate) transport: *mut u8,
    pub(crate) key: FlowKey<A>,
    /// Bytes of the IP packet, by its header.
    pub(crate) ip_length: u32,
    /// TCP flags; 0 for UDP.
    pub(crate) tcp_flags: u8,
}

impl<A: Family> Packet<A> {
    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        self.key.protocol == u32::from(PROTOCOL_TCP)
    }

    /// Only if `is_tcp`.
    #[inline(always)]
    pub(crate) fn tcp(&self) -> *mut Tcp {
        self.transport.cast()
    }

    /// Only if not `is_tcp`, but for the ports, which both headers begin with.
    #[inline(always)]
    pub(crate) fn udp(&self) -> *mut Udp {
        self.transport.cast()
    }

    /// Bytes of the frame without padding.
    #[inline(always)]
    pub(crate) fn frame_length(&self) -> u32 {
        size_of::<Ethernet>() as u32 + self.ip_length
    }

    /// A SYN without ACK: somebody opens a connection, or pretends to.
    #[inline(always)]
    pub(crate) fn is_bare_syn(&self) -> bool {
        self.tcp_flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN
    }
}

#[inline(always)]
pub(super) fn ipv4(ctx: &XdpContext, why: &mut Reason) -> Option<Packet<V4>> {
    *why = Reason::Malformed;
    let ethernet: *mut Ethernet = at(ctx, 0)?;
    let ip: *mut Ipv4 = at(ctx, size_of::<Ethernet>())?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        let header_length = (*ip).header_length();
        let ip_length = u32::from(u16::from_be((*ip).total_length));
        if (*ip).version_ihl >> 4 != 4
            || header_length < size_of::<Ipv4>()
            || !holds(ctx, size_of::<Ethernet>() + ip_length as usize)
        {
            return None;
        }
        if (*ip).fragment & Ipv4::FRAGMENT_MASK != 0 {
            *why = Reason::Fragment;
            return None;
        }
        let payload = ip_length.checked_sub(header_length as u32)?;
        let key = FlowKey {
            source: (*ip).source,
            destination: (*ip).destination,
            ports: Ports::default(),
            protocol: u32::from((*ip).protocol()),
        };
        transport(
            ctx,
            Packet { ethernet, ip, transport: ctx.data() as *mut u8, key, ip_length, tcp_flags: 0 },
            size_of::<Ethernet>() + header_length,
            payload,
            why,
        )
    }
}

#[inline(always)]
pub(super) fn ipv6(ctx: &XdpContext, why: &mut Reason) -> Option<Packet<Addr>> {
    *why = Reason::Malformed;
    let ethernet: *mut Ethernet = at(ctx, 0)?;
    let ip: *mut Ipv6 = at(ctx, size_of::<Ethernet>())?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        let payload = u32::from(u16::from_be((*ip).payload_length));
        let ip_length = size_of::<Ipv6>() as u32 + payload;
        if (*ip).version() != 6 || !holds(ctx, size_of::<Ethernet>() + ip_length as usize) {
            return None;
        }
        let key = FlowKey {
            source: (*ip).source,
            destination: (*ip).destination,
            ports: Ports::default(),
            protocol: u32::from((*ip).next_header),
        };
        transport(
            ctx,
            Packet { ethernet, ip, transport: ctx.data() as *mut u8, key, ip_length, tcp_flags: 0 },
            size_of::<Ethernet>() + size_of::<Ipv6>(),
            payload,
            why,
        )
    }
}

/// Adds the transport header, of which `payload` bytes follow the IP header at `offset`.
#[inline(always)]
fn transport<A: Family>(
    ctx: &XdpContext,
    mut packet: Packet<A>,
    offset: usize,
    payload: u32,
    why: &mut Reason,
) -> Option<Packet<A>> {
    // SAFETY: `at` compares each header with the end of the packet.
    unsafe {
        if packet.key.protocol == u32::from(PROTOCOL_TCP) {
            let tcp: *mut Tcp = at(ctx, offset)?;
            let header = u32::from((*tcp).offset >> 4) * 4;
            if header < size_of::<Tcp>() as u32 || payload < header {
                return None;
            }
            packet.tcp_flags = (*tcp).flags;
            packet.transport = tcp.cast();
        } else if packet.key.protocol == u32::from(PROTOCOL_UDP) {
            let udp: *mut Udp = at(ctx, offset)?;
            let length = u32::from(u16::from_be((*udp).length));
            if length < size_of::<Udp>() as u32 || payload < length {
                return None;
            }
            packet.transport = udp.cast();
        } else {
            let extended = !A::IS_V4 && is_extension(packet.key.protocol as u8);
            *why = if extended { Reason::Fragment } else { Reason::OtherProtocol };
            return None;
        }
        packet.key.ports = Ports::from_word(*packet.transport.cast::<u32>());
    }
    Some(packet)
}
