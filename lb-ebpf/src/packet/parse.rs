//! From a frame to the 5-tuple and pointers to its headers.

use aya_ebpf::programs::XdpContext;
use lb_common::flow::FlowKey;
use lb_common::reason::Reason;

use super::{ETHERTYPE_IPV4, Ethernet, Ipv4, PROTOCOL_TCP, PROTOCOL_UDP, Tcp, Udp, at, holds};

/// A TCP or UDP packet over IPv4, whole and not a fragment.
///
/// Pointers are fields of their own and never part of an enum: the compiler lays enums over each other, takes pointers
/// apart to do so, and the verifier then no longer knows them.
pub(crate) struct Packet {
    pub(crate) ethernet: *mut Ethernet,
    pub(crate) ip: *mut Ipv4,
    /// A whole [`Tcp`] header, or a whole [`Udp`] header if `is_tcp` says no.
    transport: *mut u8,
    pub(crate) key: FlowKey,
    /// Bytes of the IP packet, by its header.
    pub(crate) ip_length: u16,
    /// TCP flags; 0 for UDP.
    pub(crate) tcp_flags: u8,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        self.key.protocol == u32::from(PROTOCOL_TCP)
    }

    /// Only if `is_tcp`.
    #[inline(always)]
    pub(crate) fn tcp(&self) -> *mut Tcp {
        self.transport.cast()
    }

    /// Only if not `is_tcp`.
    #[inline(always)]
    pub(crate) fn udp(&self) -> *mut Udp {
        self.transport.cast()
    }

    /// Bytes of the frame without padding.
    #[inline(always)]
    pub(crate) fn frame_length(&self) -> usize {
        size_of::<Ethernet>() + self.ip_length as usize
    }

    /// A SYN without ACK: somebody opens a connection, or pretends to.
    #[inline(always)]
    pub(crate) fn is_bare_syn(&self) -> bool {
        self.tcp_flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN
    }
}

/// `None` for what is the kernel's; `why` then says why.
#[inline(always)]
pub(crate) fn parse(ctx: &XdpContext, why: &mut Reason) -> Option<Packet> {
    *why = Reason::Malformed;
    let ethernet: *mut Ethernet = at(ctx, 0)?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        if (*ethernet).ethertype != ETHERTYPE_IPV4 {
            *why = Reason::NotIpv4;
            return None;
        }
        let ip: *mut Ipv4 = at(ctx, size_of::<Ethernet>())?;
        let header_length = (*ip).header_length();
        let ip_length = u16::from_be((*ip).total_length);
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
        let offset = size_of::<Ethernet>() + header_length;
        let payload = (ip_length as usize).checked_sub(header_length)?;
        let protocol = (*ip).protocol();
        let (transport, tcp_flags): (*mut u8, u8) = match protocol {
            PROTOCOL_TCP => {
                let tcp: *mut Tcp = at(ctx, offset)?;
                let header = ((*tcp).offset >> 4) as usize * 4;
                if header < size_of::<Tcp>() || payload < header {
                    return None;
                }
                (tcp.cast(), (*tcp).flags)
            }
            PROTOCOL_UDP => {
                let udp: *mut Udp = at(ctx, offset)?;
                let length = u16::from_be((*udp).length) as usize;
                if length < size_of::<Udp>() || payload < length {
                    return None;
                }
                (udp.cast(), 0)
            }
            _ => {
                *why = Reason::OtherProtocol;
                return None;
            }
        };
        let key = key(ip, transport, protocol);
        Some(Packet { ethernet, ip, transport, key, ip_length, tcp_flags })
    }
}

/// The key, as the two words it is in the headers: the hash map reads it by words of four and of eight bytes, and the
/// CPU forwards a store to a load only if the load lies within it.
///
/// # Safety
/// Both headers were compared with the end of the packet.
#[inline(always)]
unsafe fn key(ip: *mut Ipv4, transport: *mut u8, protocol: u8) -> FlowKey {
    // SAFETY: by the caller; both headers begin with the ports, source and destination.
    let (addresses, ports) = unsafe { (*(&raw const (*ip).source).cast::<u64>(), *transport.cast::<u32>()) };
    let second = if cfg!(target_endian = "big") {
        u64::from(ports) << 32 | u64::from(protocol)
    } else {
        u64::from(protocol) << 32 | u64::from(ports)
    };
    // SAFETY: both are 16 bytes, any of which make a key.
    unsafe { core::mem::transmute([addresses, second]) }
}
