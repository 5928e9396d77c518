//! On a backend without a tunnel device: removes tunnel headers and leaves the packet to the kernel. IP in IP of whatever
//! families (RFC 2003, RFC 2473, RFC 4213), or in UDP (GUE, draft-ietf-intarea-gue-09). What is no such packet for a listed
//! destination, or not whole, passes as it came.
//!
//! Lengths are numbers until the end: pointers to an inner header that is here or there are lost to the verifier.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::Addr;
use lb_common::checksum::{Update, checksum};
use lb_common::decap::Outcome;

use crate::globals;
use crate::maps::decap::{contains, count};
use crate::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, Ethernet, Ipv4, Ipv6,
    PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_FRAGMENT, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP, Udp, at,
    holds,
};

const ETHERNET: usize = size_of::<Ethernet>();
const IPV4: usize = size_of::<Ipv4>();
const IPV6: usize = size_of::<Ipv6>();
const UDP: usize = size_of::<Udp>();
/// Bytes of a VLAN tag.
const TAG: usize = 4;

#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    match ethertype::<0>(ctx) {
        ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN => tagged(ctx.ctx),
        ethertype => frame::<0>(ctx, ethertype),
    }
}

/// A frame with one or two tags, which it keeps.
#[inline(never)]
fn tagged(ctx: *mut xdp_md) -> u32 {
    let ctx = XdpContext::new(ctx);
    match ethertype::<1>(&ctx) {
        ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN => tagged_twice(ctx.ctx),
        ethertype => frame::<1>(&ctx, ethertype),
    }
}

#[inline(never)]
fn tagged_twice(ctx: *mut xdp_md) -> u32 {
    let ctx = XdpContext::new(ctx);
    frame::<2>(&ctx, ethertype::<2>(&ctx))
}

/// The type behind so many tags; 0 if the frame ends before.
#[inline(always)]
fn ethertype<const TAGS: usize>(ctx: &XdpContext) -> u16 {
    // SAFETY: `at` compared it with the end of the packet.
    at::<u16>(ctx, ETHERNET - 2 + TAGS * TAG).map_or(0, |ethertype| unsafe { *ethertype })
}

#[inline(always)]
fn frame<const TAGS: usize>(ctx: &XdpContext, ethertype: u16) -> u32 {
    let done = match ethertype {
        ETHERTYPE_IPV4 => outer_ipv4::<TAGS>(ctx),
        ETHERTYPE_IPV6 => outer_ipv6::<TAGS>(ctx),
        _ => None,
    };
    let Some(outcome) = done else {
        return xdp_action::XDP_PASS;
    };
    count(outcome);
    if matches!(outcome, Outcome::Congestion) { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

/// `None` for what is not ours.
#[inline(always)]
fn outer_ipv4<const TAGS: usize>(ctx: &XdpContext) -> Option<Outcome> {
    let start = ETHERNET + TAGS * TAG;
    let words: *mut [u32; IPV4 / 4] = at(ctx, start)?;
    let ip: *mut Ipv4 = words.cast();
    // SAFETY: `at` compared the header with the end of the packet.
    unsafe {
        let protocol = (*ip).protocol();
        let fragment = (*ip).fragment & Ipv4::FRAGMENT_MASK != 0;
        if !is_tunnel(ctx, protocol, start + IPV4) || !contains(Addr::from_v4((*ip).destination.0)) {
            return None;
        }
        let length = usize::from(u16::from_be((*ip).total_length));
        if (*ip).version_ihl != 0x45 {
            let has_options = (*ip).version_ihl > 0x45 && (*ip).version_ihl < 0x50;
            return Some(if has_options { Outcome::Options } else { Outcome::Malformed });
        }
        // Nobody looks at the checksum any more once the header is gone.
        if length < IPV4 || !holds(ctx, start + length) || checksum(*words) != 0 {
            return Some(Outcome::Malformed);
        }
        if fragment {
            return Some(Outcome::Fragment);
        }
        let ecn = (*ip).tos & Ecn::MASK;
        Some(payload::<TAGS, IPV4>(ctx, protocol, length - IPV4, ecn))
    }
}

#[inline(always)]
fn outer_ipv6<const TAGS: usize>(ctx: &XdpContext) -> Option<Outcome> {
    let start = ETHERNET + TAGS * TAG;
    let ip: *mut Ipv6 = at(ctx, start)?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        let (mut protocol, mut options) = ((*ip).next_header, 0);
        let extension = matches!(protocol, PROTOCOL_DESTINATION_OPTIONS | PROTOCOL_FRAGMENT);
        if extension {
            options = protocol;
            // Of 8 bytes at least; the first is what follows.
            protocol = *at::<u8>(ctx, start + IPV6)?;
        }
        let tunnel = if extension { is_ip(protocol) } else { is_tunnel(ctx, protocol, start + IPV6) };
        // An IPv4 address is listed as it is mapped into IPv6, where nobody may send to it.
        if !tunnel || (*ip).destination.is_v4() || !contains((*ip).destination) {
            return None;
        }
        let length = usize::from(u16::from_be((*ip).payload_length));
        if (*ip).version() != 6 || !holds(ctx, start + IPV6 + length) {
            return Some(Outcome::Malformed);
        }
        let ecn = traffic_class(ip) & Ecn::MASK;
        if !extension {
            return Some(payload::<TAGS, IPV6>(ctx, protocol, length, ecn));
        }
        if options == PROTOCOL_FRAGMENT {
            return Some(Outcome::Fragment);
        }
        let Some(limit) = at::<[u8; LIMIT]>(ctx, start + IPV6) else {
            return Some(Outcome::Malformed);
        };
        // Linux's `ip6tnl` sends this option unless it is told not to, padded with PadN. It is for who puts the packet into
        // another tunnel (RFC 2473 section 4.1.1).
        let [_, 0, 4, 1, _, 1, 1, _] = *limit else {
            return Some(Outcome::Options);
        };
        if length < LIMIT {
            return Some(Outcome::Malformed);
        }
        Some(ip_in_ip::<TAGS, { IPV6 + LIMIT }>(ctx, protocol, length - LIMIT, ecn, Outcome::Ip))
    }
}

/// Bytes of a header with a tunnel encapsulation limit.
const LIMIT: usize = 8;

#[inline(always)]
const fn is_ip(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_IPIP | PROTOCOL_IPV6)
}

/// Whether it is worth a look at the destination.
#[inline(always)]
fn is_tunnel(ctx: &XdpContext, protocol: u8, offset: usize) -> bool {
    if protocol != PROTOCOL_UDP {
        return is_ip(protocol);
    }
    // SAFETY: `at` compared the header with the end of the packet.
    at::<Udp>(ctx, offset).is_some_and(|udp| unsafe { (*udp).destination } == globals::gue_port())
}

/// What `OUTER` bytes of IP header carry.
#[inline(always)]
fn payload<const TAGS: usize, const OUTER: usize>(
    ctx: &XdpContext,
    protocol: u8,
    length: usize,
    ecn: u8,
) -> Outcome {
    match (protocol, OUTER) {
        (PROTOCOL_UDP, IPV4) => gue::<TAGS, IPV4, { IPV4 + UDP }, { IPV4 + UDP + GUE }>(ctx, length, ecn),
        (PROTOCOL_UDP, _) => gue::<TAGS, IPV6, { IPV6 + UDP }, { IPV6 + UDP + GUE }>(ctx, length, ecn),
        _ => ip_in_ip::<TAGS, OUTER>(ctx, protocol, length, ecn, Outcome::Ip),
    }
}

/// Bytes of a GUE header of variant 0 without fields.
const GUE: usize = 4;

/// IP in UDP: right behind it (variant 1, and `fou`), or behind an empty header (variant 0). The packet inside has checksums of
/// its own, so the one of UDP is not looked at.
#[inline(always)]
fn gue<const TAGS: usize, const OUTER: usize, const DIRECT: usize, const HEADED: usize>(
    ctx: &XdpContext,
    length: usize,
    ecn: u8,
) -> Outcome {
    let start = ETHERNET + TAGS * TAG;
    let (Some(udp), Some(header)) = (at::<Udp>(ctx, start + OUTER), at::<[u8; GUE]>(ctx, start + DIRECT))
    else {
        return Outcome::Malformed;
    };
    // SAFETY: `at` compared each header with the end of the packet.
    let ([first, protocol, flags @ ..], datagram) =
        unsafe { (*header, usize::from(u16::from_be((*udp).length))) };
    if datagram > length || datagram < UDP + GUE {
        return Outcome::Malformed;
    }
    match first >> 4 {
        4 => ip_in_ip::<TAGS, DIRECT>(ctx, PROTOCOL_IPIP, datagram - UDP, ecn, Outcome::Gue),
        6 => ip_in_ip::<TAGS, DIRECT>(ctx, PROTOCOL_IPV6, datagram - UDP, ecn, Outcome::Gue),
        0..4 if first != 0 || flags != [0, 0] || !is_ip(protocol) => Outcome::Options,
        0..4 => ip_in_ip::<TAGS, HEADED>(ctx, protocol, datagram - UDP - GUE, ecn, Outcome::Gue),
        _ => Outcome::Malformed,
    }
}

/// A packet of `length` bytes behind `OUTER` bytes; more than it says is padding.
#[inline(always)]
fn ip_in_ip<const TAGS: usize, const OUTER: usize>(
    ctx: &XdpContext,
    protocol: u8,
    length: usize,
    ecn: u8,
    outcome: Outcome,
) -> Outcome {
    if protocol == PROTOCOL_IPIP {
        inner_ipv4::<TAGS, OUTER>(ctx, length, ecn, outcome)
    } else {
        inner_ipv6::<TAGS, OUTER>(ctx, length, ecn, outcome)
    }
}

#[inline(always)]
fn inner_ipv4<const TAGS: usize, const OUTER: usize>(
    ctx: &XdpContext,
    length: usize,
    outer: u8,
    outcome: Outcome,
) -> Outcome {
    let Some(ip) = at::<Ipv4>(ctx, ETHERNET + TAGS * TAG + OUTER) else {
        return Outcome::Malformed;
    };
    // SAFETY: `at` compared the header with the end of the packet.
    unsafe {
        let (header, total) = ((*ip).header_length(), usize::from(u16::from_be((*ip).total_length)));
        if (*ip).version_ihl >> 4 != 4 || header < IPV4 || total < header || total > length {
            return Outcome::Malformed;
        }
        if contains(Addr::from_v4((*ip).destination.0)) {
            return Outcome::Nested;
        }
        let old = (*ip).tos;
        let ecn = Ecn::combined(outer, old & Ecn::MASK);
        if ecn == Ecn::LOST {
            return Outcome::Congestion;
        }
        let new = old & !Ecn::MASK | ecn;
        if new != old {
            let version = (*ip).version_ihl;
            let words = (u16::from_ne_bytes([version, old]), u16::from_ne_bytes([version, new]));
            (*ip).tos = new;
            (*ip).checksum = Update::new((*ip).checksum).u16(words.0, words.1).finish();
        }
    }
    remove::<TAGS, OUTER>(ctx, ETHERTYPE_IPV4, outcome)
}

#[inline(always)]
fn inner_ipv6<const TAGS: usize, const OUTER: usize>(
    ctx: &XdpContext,
    length: usize,
    outer: u8,
    outcome: Outcome,
) -> Outcome {
    let Some(ip) = at::<Ipv6>(ctx, ETHERNET + TAGS * TAG + OUTER) else {
        return Outcome::Malformed;
    };
    // SAFETY: `at` compared the header with the end of the packet.
    unsafe {
        let total = IPV6 + usize::from(u16::from_be((*ip).payload_length));
        if (*ip).version() != 6 || total > length {
            return Outcome::Malformed;
        }
        if !(*ip).destination.is_v4() && contains((*ip).destination) {
            return Outcome::Nested;
        }
        let ecn = Ecn::combined(outer, traffic_class(ip) & Ecn::MASK);
        if ecn == Ecn::LOST {
            return Outcome::Congestion;
        }
        let [first, second, label @ ..] = (*ip).version_class_label.to_ne_bytes();
        let second = second & !(Ecn::MASK << 4) | ecn << 4;
        (*ip).version_class_label = u32::from_ne_bytes([first, second, label[0], label[1]]);
    }
    remove::<TAGS, OUTER>(ctx, ETHERTYPE_IPV6, outcome)
}

/// # Safety
/// The header was compared with the end of the packet.
#[inline(always)]
unsafe fn traffic_class(ip: *mut Ipv6) -> u8 {
    // SAFETY: by the caller.
    let [first, second, ..] = unsafe { (*ip).version_class_label }.to_ne_bytes();
    first << 4 | second >> 4
}

/// The two bits of RFC 3168 section 5.
struct Ecn;

impl Ecn {
    const MASK: u8 = 3;
    const NOT_ECT: u8 = 0;
    const ECT_1: u8 = 1;
    const ECT_0: u8 = 2;
    const CE: u8 = 3;
    /// No mark: the packet is to be dropped.
    const LOST: u8 = 4;

    /// What a packet has when it leaves the tunnel (RFC 6040 section 4.2, figure 4).
    #[inline(always)]
    const fn combined(outer: u8, inner: u8) -> u8 {
        match (outer, inner) {
            (Self::CE, Self::NOT_ECT) => Self::LOST,
            (_, Self::NOT_ECT) => Self::NOT_ECT,
            (Self::CE, _) => Self::CE,
            (Self::ECT_1, Self::ECT_0) => Self::ECT_1,
            _ => inner,
        }
    }
}

/// Takes `OUTER` bytes out behind the Ethernet header and its tags.
#[inline(always)]
fn remove<const TAGS: usize, const OUTER: usize>(
    ctx: &XdpContext,
    ethertype: u16,
    outcome: Outcome,
) -> Outcome {
    let Some((addresses, tags, _)) = front::<TAGS>(ctx) else {
        return Outcome::Malformed;
    };
    // SAFETY: `front` compared both with the end of the packet.
    let kept = unsafe { (*addresses, *tags) };
    // SAFETY: the context is this program's own. It fits: a whole header is behind what goes.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, OUTER as i32) } != 0 {
        return Outcome::Malformed;
    }
    let Some((addresses, tags, kind)) = front::<TAGS>(ctx) else {
        return Outcome::Malformed;
    };
    // SAFETY: `front` compared all with the new end of the packet.
    unsafe {
        (*addresses, *tags) = kept;
        *kind = ethertype;
    }
    outcome
}

/// Both addresses, the tags, and the type of what follows.
#[inline(always)]
fn front<const TAGS: usize>(ctx: &XdpContext) -> Option<(*mut [u32; 3], *mut [u32; TAGS], *mut u16)> {
    let ethertype = at(ctx, ETHERNET - 2 + TAGS * TAG)?;
    Some((at(ctx, 0)?, at(ctx, ETHERNET - 2)?, ethertype))
}
