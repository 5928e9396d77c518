//! What is between the Ethernet header and the transport header, where that is not where it usually is: IPv4 fragments, and
//! IPv6 extension headers.

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::reason::Reason;

use super::{
    Ethernet, Family, Ipv4, Ipv6, PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_FRAGMENT, PROTOCOL_HOP_BY_HOP,
    PROTOCOL_ROUTING, at, holds, load,
};
use crate::globals;

/// Headers that were walked over. Offsets are bytes from the start of the frame.
pub(crate) struct Chain<A: Family> {
    pub(crate) source: A,
    pub(crate) destination: A,
    /// What follows: of a later fragment, what its packet begins with behind the fragment header.
    pub(crate) protocol: u8,
    /// Where that begins, and how many bytes of it there are.
    pub(crate) offset: u32,
    pub(crate) payload: u32,
    /// Bytes of the IP packet.
    pub(crate) ip_length: u32,
    /// Where what is fragmented begins, 0 if nothing is.
    pub(crate) part: u32,
    /// Identification of the packet that is fragmented.
    pub(crate) id: u32,
    /// Where in that packet this fragment belongs, bytes; and whether more follow it.
    pub(crate) fragment: u32,
    pub(crate) more: bool,
}

/// Bytes of a frame before its IP header.
const IP: u32 = size_of::<Ethernet>() as u32;

#[inline(always)]
pub(super) fn ipv4(ctx: &XdpContext) -> Result<Chain<V4>, Reason> {
    let Some(ip) = at::<Ipv4>(ctx, IP as usize) else {
        return Err(Reason::Malformed);
    };
    // SAFETY: `at` compared the header with the end of the packet.
    let ip = unsafe { *ip };
    let header = ip.header_length() as u32;
    let ip_length = u32::from(u16::from_be(ip.total_length));
    if header < size_of::<Ipv4>() as u32 || ip_length < header || !holds(ctx, (IP + ip_length) as usize) {
        return Err(Reason::Malformed);
    }
    Ok(Chain {
        source: ip.source,
        destination: ip.destination,
        protocol: ip.protocol(),
        offset: IP + header,
        payload: ip_length - header,
        ip_length,
        part: IP + header,
        id: u32::from(ip.id),
        fragment: u32::from(u16::from_be(ip.fragment & Ipv4::OFFSET_MASK)) * 8,
        more: ip.fragment & Ipv4::MORE_FRAGMENTS != 0,
    })
}

/// Extension headers that are walked over (RFC 8200 section 4).
#[inline(always)]
pub(crate) const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        PROTOCOL_HOP_BY_HOP | PROTOCOL_ROUTING | PROTOCOL_FRAGMENT | PROTOCOL_DESTINATION_OPTIONS
    )
}

/// Up to six headers: RFC 8200 section 4.1 knows of no more before a transport header, one of them twice.
#[inline(always)]
pub(super) fn ipv6(ctx: &XdpContext) -> Result<Chain<Addr>, Reason> {
    let Some(ip) = at::<Ipv6>(ctx, IP as usize) else {
        return Err(Reason::Malformed);
    };
    // SAFETY: `at` compared the header with the end of the packet.
    let (source, destination, protocol, payload) = unsafe {
        ((*ip).source, (*ip).destination, (*ip).next_header, u32::from(u16::from_be((*ip).payload_length)))
    };
    let first = IP + size_of::<Ipv6>() as u32;
    let end = first + payload;
    if !holds(ctx, end as usize) {
        return Err(Reason::Malformed);
    }
    let mut chain = Chain {
        source,
        destination,
        protocol,
        offset: first,
        payload,
        ip_length: end - IP,
        part: 0,
        id: 0,
        fragment: 0,
        more: false,
    };
    for _ in 0..globals::extension_headers() {
        if !is_extension(chain.protocol) || chain.fragment != 0 {
            break;
        }
        step(ctx, &mut chain, first)?;
        if chain.offset > end {
            return Err(Reason::Malformed);
        }
    }
    chain.payload = end - chain.offset;
    if is_extension(chain.protocol) && chain.fragment == 0 { Err(Reason::OtherProtocol) } else { Ok(chain) }
}

/// Walks over one header: its first eight bytes say what follows it, and how long it is.
#[inline(always)]
fn step(ctx: &XdpContext, chain: &mut Chain<Addr>, first: u32) -> Result<(), Reason> {
    let Some([next, length, a, b, c, d, e, f]) = load(ctx, chain.offset) else {
        return Err(Reason::Malformed);
    };
    let protocol = chain.protocol;
    let mut size = (u32::from(length) + 1) * 8;
    if protocol == PROTOCOL_FRAGMENT {
        if chain.part != 0 {
            return Err(Reason::OtherProtocol);
        }
        let field = u16::from_be_bytes([a, b]);
        size = 8;
        chain.fragment = u32::from(field & !7);
        chain.more = field & 1 != 0;
        chain.id = u32::from_ne_bytes([c, d, e, f]);
        chain.part = chain.offset + size;
    }
    // A host on the way that is not the last one is the kernel's to be. Type 0 is no longer in use (RFC 5095).
    let routed = protocol == PROTOCOL_ROUTING && (a == 0 || b != 0);
    // This one comes first or not at all.
    let misplaced = protocol == PROTOCOL_HOP_BY_HOP && chain.offset != first;
    if routed || misplaced {
        return Err(Reason::OtherProtocol);
    }
    chain.protocol = next;
    chain.offset += size;
    Ok(())
}
