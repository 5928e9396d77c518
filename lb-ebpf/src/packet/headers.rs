//! Headers as they are on the wire; every field in network order.

use lb_common::addr::{Addr, V4};

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ethernet {
    pub(crate) destination: [u8; 6],
    pub(crate) source: [u8; 6],
    pub(crate) ethertype: u16,
}

impl Ethernet {
    /// Makes it a header back to the sender.
    #[inline(always)]
    pub(crate) const fn turn(&mut self) {
        (self.destination, self.source) = (self.source, self.destination);
    }
}

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
/// 802.1Q, and the service tag of 802.1ad.
pub(crate) const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
pub(crate) const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8_u16.to_be();

/// RFC 791 section 3.1, without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    /// Version and header length in 32-bit words.
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length: u16,
    pub(crate) id: u16,
    /// Flags and fragment offset.
    pub(crate) fragment: u16,
    /// Time to live and protocol, in one word for the checksum.
    pub(crate) ttl_protocol: [u8; 2],
    pub(crate) checksum: u16,
    pub(crate) source: V4,
    pub(crate) destination: V4,
}

impl Ipv4 {
    pub(crate) const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
    pub(crate) const MORE_FRAGMENTS: u16 = 0x2000_u16.to_be();
    /// An offset: not the first fragment.
    pub(crate) const OFFSET_MASK: u16 = 0x1fff_u16.to_be();
    /// More fragments, or an offset.
    pub(crate) const FRAGMENT_MASK: u16 = 0x3fff_u16.to_be();

    #[inline(always)]
    pub(crate) const fn ttl(&self) -> u8 {
        self.ttl_protocol[0]
    }

    #[inline(always)]
    pub(crate) const fn protocol(&self) -> u8 {
        self.ttl_protocol[1]
    }

    /// Bytes of the header, options included.
    #[inline(always)]
    pub(crate) const fn header_length(&self) -> usize {
        (self.version_ihl as usize & 0xf) << 2
    }
}

/// RFC 8200 section 3, without extension headers.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv6 {
    /// Version, traffic class and flow label.
    pub(crate) version_class_label: u32,
    pub(crate) payload_length: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: Addr,
    pub(crate) destination: Addr,
}

impl Ipv6 {
    /// The first byte is the version and the upper half of the traffic class.
    #[inline(always)]
    pub(crate) const fn version(&self) -> u8 {
        self.version_class_label.to_ne_bytes()[0] >> 4
    }
}

pub(crate) const PROTOCOL_HOP_BY_HOP: u8 = 0;
pub(crate) const PROTOCOL_ICMP: u8 = 1;
pub(crate) const PROTOCOL_IPIP: u8 = 4;
pub(crate) const PROTOCOL_TCP: u8 = 6;
pub(crate) const PROTOCOL_UDP: u8 = 17;
pub(crate) const PROTOCOL_IPV6: u8 = 41;
pub(crate) const PROTOCOL_ROUTING: u8 = 43;
pub(crate) const PROTOCOL_FRAGMENT: u8 = 44;
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;
pub(crate) const PROTOCOL_DESTINATION_OPTIONS: u8 = 60;

/// RFC 9293 section 3.1, without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) checksum: u16,
    pub(crate) urgent: u16,
}

impl Tcp {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const ACK: u8 = 16;
}

/// RFC 768.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Udp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) length: u16,
    pub(crate) checksum: u16,
}

/// RFC 792, RFC 4443 section 2.1.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: u16,
    pub(crate) rest: u32,
}
