//! From a frame to the 5-tuple and pointers to its headers.

use aya_ebpf::programs::XdpContext;
use lb_common::flow::FlowKey;
use lb_common::reason::Reason;

use super::{ETHERTYPE_IPV4, Ethernet, Ipv4, PROTOCOL_TCP, PROTOCOL_UDP, Tcp, Udp, at, length};

/// A TCP or UDP packet over IPv4, whole and not a fragment.
pub(crate) struct Packet {
    pub(crate) ethernet: *mut Ethernet,
    pub(crate) ip: *mut Ipv4,
    pub(crate) transport: Transport,
    pub(crate) key: FlowKey,
    /// Bytes of the IP packet, by its header.
    pub(crate) ip_length: u16,
    /// Bytes of the frame.
    pub(crate) frame_length: usize,
}

#[derive(Clone, Copy)]
pub(crate) enum Transport {
    Tcp(*mut Tcp),
    Udp(*mut Udp),
}

impl Packet {
    /// TCP flags; 0 for UDP.
    #[inline(always)]
    pub(crate) fn tcp_flags(&self) -> u8 {
        match self.transport {
            // SAFETY: `parse` compared the header with the end of the packet.
            Transport::Tcp(tcp) => unsafe { (*tcp).flags },
            Transport::Udp(_) => 0,
        }
    }

    /// A SYN without ACK: somebody opens a connection, or pretends to.
    #[inline(always)]
    pub(crate) fn is_bare_syn(&self) -> bool {
        self.tcp_flags() & (Tcp::SYN | Tcp::ACK) == Tcp::SYN
    }

    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        self.key.protocol == u32::from(PROTOCOL_TCP)
    }
}

/// `Err` says why the packet is the kernel's.
#[inline(always)]
pub(crate) fn parse(ctx: &XdpContext) -> Result<Packet, Reason> {
    let ethernet: *mut Ethernet = at(ctx, 0).ok_or(Reason::Malformed)?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        if (*ethernet).ethertype != ETHERTYPE_IPV4 {
            return Err(Reason::NotIpv4);
        }
        let ip: *mut Ipv4 = at(ctx, size_of::<Ethernet>()).ok_or(Reason::Malformed)?;
        let header_length = (*ip).header_length();
        let ip_length = u16::from_be((*ip).total_length);
        let frame_length = length(ctx);
        if (*ip).version_ihl >> 4 != 4
            || header_length < size_of::<Ipv4>()
            || size_of::<Ethernet>() + ip_length as usize > frame_length
        {
            return Err(Reason::Malformed);
        }
        if (*ip).fragment & Ipv4::FRAGMENT_MASK != 0 {
            return Err(Reason::Fragment);
        }
        let offset = size_of::<Ethernet>() + header_length;
        let payload = (ip_length as usize).wrapping_sub(header_length);
        let protocol = (*ip).protocol();
        let (transport, source_port, destination_port) = match protocol {
            PROTOCOL_TCP => {
                let tcp: *mut Tcp = at(ctx, offset).ok_or(Reason::Malformed)?;
                let tcp_header = ((*tcp).offset >> 4) as usize * 4;
                if tcp_header < size_of::<Tcp>() || payload > ip_length as usize || payload < tcp_header {
                    return Err(Reason::Malformed);
                }
                (Transport::Tcp(tcp), (*tcp).source, (*tcp).destination)
            }
            PROTOCOL_UDP => {
                let udp: *mut Udp = at(ctx, offset).ok_or(Reason::Malformed)?;
                let udp_length = u16::from_be((*udp).length) as usize;
                if udp_length < size_of::<Udp>() || payload > ip_length as usize || payload < udp_length {
                    return Err(Reason::Malformed);
                }
                (Transport::Udp(udp), (*udp).source, (*udp).destination)
            }
            _ => return Err(Reason::OtherProtocol),
        };
        let key = FlowKey {
            source: (*ip).source,
            destination: (*ip).destination,
            source_port,
            destination_port,
            protocol: u32::from(protocol),
        };
        Ok(Packet { ethernet, ip, transport, key, ip_length, frame_length })
    }
}
