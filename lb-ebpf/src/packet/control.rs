//! ICMP of both families, and the headers of packets that the program itself sends.

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::checksum::{Update, checksum};

use super::{Family, Ipv4, Ipv6, PROTOCOL_FRAGMENT, PROTOCOL_ICMP, PROTOCOL_ICMPV6, at};

/// Time to live of what the program sends by itself.
const TTL: u8 = 64;

pub(crate) trait Control: Family {
    const ICMP: u8;
    const ECHO_REQUEST: u8;
    const ECHO_REPLY: u8;

    /// Whether messages of this type are about a packet, which they quote.
    fn is_error(kind: u8) -> bool;

    /// Whether it can be a single host's address.
    fn is_unicast(self) -> bool;

    /// Bytes of the packet by a header that is followed by a whole ICMP message; 0 for any other header.
    ///
    /// # Safety
    /// The header was compared with the end of the packet.
    unsafe fn icmp_packet(header: *mut Self::Header) -> usize;

    /// Source and destination.
    ///
    /// # Safety
    /// As above.
    unsafe fn addresses(header: *mut Self::Header) -> (Self, Self);

    /// Makes it a header back to the sender.
    ///
    /// # Safety
    /// As above.
    unsafe fn turn(header: *mut Self::Header);

    /// What a header, which the packet has at `offset`, is followed by: the distance from its start to the transport header,
    /// and the protocol of that in the lower eight bits; 0 for a header that is none, or a fragment's without a transport
    /// header.
    ///
    /// # Safety
    /// As above.
    unsafe fn followed_by(ctx: &XdpContext, header: *mut Self::Header, offset: usize) -> usize;

    /// Puts other addresses into a header that a message quotes, and says what that does to a checksum over the message.
    ///
    /// # Safety
    /// As above.
    unsafe fn requote(header: *mut Self::Header, source: Self, destination: Self, update: Update) -> Update;

    /// What a change of an outer address does to the checksum of an ICMP message.
    fn update_icmp(update: Update, old: Self, new: Self) -> Update;

    /// Of a packet that carries so many bytes.
    fn header(source: Self, destination: Self, protocol: u8, payload: u16) -> Self::Header;

    /// Sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    fn pseudo_sum(source: Self, destination: Self, protocol: u8, payload: u16) -> u64;
}

impl Control for V4 {
    const ICMP: u8 = PROTOCOL_ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    /// Destination unreachable, too big among them; time exceeded; parameter problem (RFC 792).
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }

    /// Neither "this" network nor loopback, multicast, reserved or broadcast (RFC 1122 section 3.2.1.3).
    #[inline(always)]
    fn is_unicast(self) -> bool {
        let [first, ..] = self.0.to_ne_bytes();
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    unsafe fn icmp_packet(header: *mut Ipv4) -> usize {
        // SAFETY: by the caller.
        unsafe {
            if (*header).version_ihl == 0x45
                && (*header).protocol() == PROTOCOL_ICMP
                && (*header).fragment & Ipv4::FRAGMENT_MASK == 0
            {
                u16::from_be((*header).total_length) as usize
            } else {
                0
            }
        }
    }

    #[inline(always)]
    unsafe fn addresses(header: *mut Ipv4) -> (Self, Self) {
        // SAFETY: by the caller.
        unsafe { ((*header).source, (*header).destination) }
    }

    #[inline(always)]
    unsafe fn turn(header: *mut Ipv4) {
        // SAFETY: by the caller.
        unsafe {
            let ((source, destination), old) = (Self::addresses(header), (*header).ttl_protocol);
            let new = [TTL, old[1]];
            (*header).source = destination;
            (*header).destination = source;
            (*header).ttl_protocol = new;
            (*header).checksum = Update::new((*header).checksum)
                .u16(u16::from_ne_bytes(old), u16::from_ne_bytes(new))
                .finish();
        }
    }

    #[inline(always)]
    unsafe fn followed_by(_: &XdpContext, header: *mut Ipv4, _: usize) -> usize {
        // SAFETY: by the caller.
        unsafe {
            let length = (*header).header_length();
            if (*header).version_ihl >> 4 != 4
                || length < size_of::<Ipv4>()
                || (*header).fragment & Ipv4::OFFSET_MASK != 0
            {
                0
            } else {
                length << 8 | (*header).protocol() as usize
            }
        }
    }

    /// The header has a checksum of its own, which the message's covers too.
    #[inline(always)]
    unsafe fn requote(header: *mut Ipv4, source: Self, destination: Self, update: Update) -> Update {
        // SAFETY: by the caller.
        unsafe {
            let ((old_source, old_destination), old) = (Self::addresses(header), (*header).checksum);
            let new =
                Update::new(old).u32(old_source.0, source.0).u32(old_destination.0, destination.0).finish();
            (*header).checksum = new;
            (*header).source = source;
            (*header).destination = destination;
            update.u32(old_source.0, source.0).u32(old_destination.0, destination.0).u16(old, new)
        }
    }

    /// There is no pseudo-header.
    #[inline(always)]
    fn update_icmp(update: Update, _: Self, _: Self) -> Update {
        update
    }

    /// No fragmentation, so that the identification may be 0 (RFC 6864 section 4.1).
    #[inline(always)]
    fn header(source: Self, destination: Self, protocol: u8, payload: u16) -> Ipv4 {
        let total_length = (size_of::<Ipv4>() as u16 + payload).to_be();
        let [high, low] = total_length.to_ne_bytes();
        let words = [
            u32::from_ne_bytes([0x45, 0, high, low]),
            u32::from_ne_bytes([0, 0, 0x40, 0]),
            u32::from_ne_bytes([TTL, protocol, 0, 0]),
            source.0,
            destination.0,
        ];
        Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length,
            id: 0,
            fragment: Ipv4::DONT_FRAGMENT,
            ttl_protocol: [TTL, protocol],
            checksum: checksum(words),
            source,
            destination,
        }
    }

    #[inline(always)]
    fn pseudo_sum(source: Self, destination: Self, protocol: u8, payload: u16) -> u64 {
        u64::from(source.0) + u64::from(destination.0) + protocol_and_length(protocol, payload)
    }
}

impl Control for Addr {
    const ICMP: u8 = PROTOCOL_ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    /// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443 section 2.1).
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    /// Neither unspecified nor loopback nor multicast (RFC 4291 section 2.4), nor an IPv4 address in disguise.
    #[inline(always)]
    fn is_unicast(self) -> bool {
        let words = self.words();
        let [first, ..] = words[0].to_ne_bytes();
        first != 0xff && words[0] | words[1] != 0
    }

    #[inline(always)]
    unsafe fn icmp_packet(header: *mut Ipv6) -> usize {
        // SAFETY: by the caller.
        unsafe {
            if (*header).version() == 6 && (*header).next_header == PROTOCOL_ICMPV6 {
                size_of::<Ipv6>() + u16::from_be((*header).payload_length) as usize
            } else {
                0
            }
        }
    }

    #[inline(always)]
    unsafe fn addresses(header: *mut Ipv6) -> (Self, Self) {
        // SAFETY: by the caller.
        unsafe { ((*header).source, (*header).destination) }
    }

    #[inline(always)]
    unsafe fn turn(header: *mut Ipv6) {
        // SAFETY: by the caller.
        unsafe {
            let (source, destination) = Self::addresses(header);
            (*header).source = destination;
            (*header).destination = source;
            (*header).hop_limit = TTL;
        }
    }

    /// Of extension headers only that of a first fragment is looked behind: it is all that a service's packets can have got
    /// on their way.
    #[inline(always)]
    unsafe fn followed_by(ctx: &XdpContext, header: *mut Ipv6, offset: usize) -> usize {
        /// The upper 13 bits of the second word (RFC 8200 section 4.5).
        const OFFSET: u16 = 0xfff8_u16.to_be();
        // SAFETY: by the caller; `at` compares the fragment header with the end of the packet.
        unsafe {
            if (*header).version() != 6 {
                return 0;
            }
            let next = (*header).next_header;
            if next != PROTOCOL_FRAGMENT {
                return size_of::<Ipv6>() << 8 | next as usize;
            }
            let Some(fragment) = at::<[u16; 4]>(ctx, offset + size_of::<Ipv6>()) else {
                return 0;
            };
            let [next, place, ..] = *fragment;
            if place & OFFSET != 0 {
                0
            } else {
                (size_of::<Ipv6>() + 8) << 8 | next.to_ne_bytes()[0] as usize
            }
        }
    }

    #[inline(always)]
    unsafe fn requote(header: *mut Ipv6, source: Self, destination: Self, update: Update) -> Update {
        // SAFETY: by the caller.
        unsafe {
            let (old_source, old_destination) = Self::addresses(header);
            (*header).source = source;
            (*header).destination = destination;
            Self::update(Self::update(update, old_source, source), old_destination, destination)
        }
    }

    #[inline(always)]
    fn update_icmp(update: Update, old: Self, new: Self) -> Update {
        Self::update(update, old, new)
    }

    #[inline(always)]
    fn header(source: Self, destination: Self, protocol: u8, payload: u16) -> Ipv6 {
        Ipv6 {
            version_class_label: (6_u32 << 28).to_be(),
            payload_length: payload.to_be(),
            next_header: protocol,
            hop_limit: TTL,
            source,
            destination,
        }
    }

    #[inline(always)]
    fn pseudo_sum(source: Self, destination: Self, protocol: u8, payload: u16) -> u64 {
        let mut sum = protocol_and_length(protocol, payload);
        for word in source.words() {
            sum += u64::from(word);
        }
        for word in destination.words() {
            sum += u64::from(word);
        }
        sum
    }
}

#[inline(always)]
fn protocol_and_length(protocol: u8, payload: u16) -> u64 {
    u64::from(u16::from_ne_bytes([0, protocol])) + u64::from(payload.to_be())
}
