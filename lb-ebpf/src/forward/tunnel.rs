//! Tunnels: an outer header in front, the packet itself untouched but for its time to live. IP in IP of whatever families
//! (RFC 2003, RFC 2473, RFC 4213), or in UDP (GUE variant 1, draft-ietf-intarea-gue-09 section 4), so that switches and
//! network cards that know no tunnels spread it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::Addr;
use lb_common::backend::{Backend, Encapsulation, PLAIN4, PLAIN6};
use lb_common::checksum::fold_few;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Family, Ipv4, Ipv6, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP,
    Packet, Udp, at,
};
use crate::transmit::transmit;

const TTL: u8 = 64;
const IPV4: u32 = size_of::<Ipv4>() as u32;
const IPV6: u32 = size_of::<Ipv6>() as u32;
const UDP: u32 = size_of::<Udp>() as u32;

/// Bytes that a packet grows by.
#[inline(always)]
pub(crate) fn overhead(method: u32, backend: &Backend) -> u32 {
    if method != Method::TUNNEL {
        return 0;
    }
    match backend.flags & (PLAIN4 | PLAIN6) {
        PLAIN4 => return IPV4,
        PLAIN6 => return IPV6,
        _ => {}
    }
    let ip = if backend.address.is_v4() { IPV4 } else { IPV6 };
    if backend.encapsulation == Encapsulation::Gue as u8 { ip + UDP } else { ip }
}

/// What is usual is inlined.
#[inline(always)]
pub(crate) fn encapsulate<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    backend: &Backend,
) -> Result<u32, Reason> {
    // SAFETY: parsing compared the header with the end of the packet.
    let class = unsafe {
        A::forwarded(packet.ip);
        A::traffic_class(packet.ip)
    };
    let inner = if A::IS_V4 { PROTOCOL_IPIP } else { PROTOCOL_IPV6 };
    let plain = if A::IS_V4 { PLAIN4 } else { PLAIN6 };
    if backend.flags & plain == 0 {
        let lengths = packet.ip_length << 16 | u32::from(class) << 8 | u32::from(inner);
        return match other(ctx.ctx, core::ptr::from_ref(backend), lengths, vary(packet)) {
            0 => Err(Reason::NoHeadroom),
            ethertype => transmit(ctx, &backend.next_hop, ethertype as u16),
        };
    }
    let put = if A::IS_V4 { put_ipv4 } else { put_ipv6 };
    put(ctx, backend, packet.ip_length, class, inner, 0).ok_or(Reason::NoHeadroom)?;
    transmit(ctx, &backend.next_hop, A::ETHERTYPE)
}

/// A number that is the same for all packets of a flow, all bits of which depend on all of its client's address and ports: the
/// 32-bit finalizer of MurmurHash3.
#[inline(always)]
fn vary<A: Family>(packet: &Packet<A>) -> u32 {
    let [a, b, c, d] = packet.key.source.mapped().words();
    let mut x = a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d ^ packet.key.ports.word();
    x = (x ^ x >> 16).wrapping_mul(0x85eb_ca6b);
    x = (x ^ x >> 13).wrapping_mul(0xc2b2_ae35);
    x ^ x >> 16
}

#[inline(always)]
fn grow(ctx: &XdpContext, bytes: u32) -> Option<()> {
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(bytes as i32)) } != 0 { None } else { Some(()) }
}

/// Any header, from the record. `packet` is its length, traffic class and protocol number in one word. Returns the ethertype,
/// or 0 if there is no headroom. A function of its own: what is rarer must not cost the rest registers and stack.
#[inline(never)]
fn other(ctx: *mut xdp_md, backend: *const Backend, packet: u32, vary: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: an element of an array stays readable.
    let backend = unsafe { &*backend };
    let (length, class, inner) = (packet >> 16, (packet >> 8) as u8, packet as u8);
    let gue = backend.encapsulation == Encapsulation::Gue as u8;
    let protocol = if gue { PROTOCOL_UDP } else { inner };
    let length = if gue { length + UDP } else { length };
    let Some(ethertype) = outer(&ctx, backend, length, class, protocol, vary) else {
        return 0;
    };
    if gue {
        let offset = if ethertype == ETHERTYPE_IPV4 { IPV4 } else { IPV6 };
        let Some(udp) = at::<Udp>(&ctx, size_of::<Ethernet>() + offset as usize) else {
            return 0;
        };
        // Any port of the dynamic range, the same for all packets of a flow. No checksum: the packet inside has its own,
        // and a tunnel may leave it out over IPv6 too (RFC 6935 section 5).
        let source = 0xc000 | vary as u16 >> 2;
        // SAFETY: `at` compared the header with the end of the packet.
        unsafe {
            *udp = Udp {
                source: source.to_be(),
                destination: backend.gue_port,
                length: (length as u16).to_be(),
                checksum: 0,
            };
        }
    }
    u32::from(ethertype)
}

/// The outer IP header, with room for UDP behind it if that is the protocol.
#[inline(always)]
fn outer(
    ctx: &XdpContext,
    backend: &Backend,
    length: u32,
    class: u8,
    protocol: u8,
    vary: u32,
) -> Option<u16> {
    let varied = varied(backend.spread, vary);
    if backend.address.is_v4() {
        put_ipv4(ctx, backend, length, class, protocol, varied)?;
        return Some(ETHERTYPE_IPV4);
    }
    put_ipv6(ctx, backend, length, class, protocol, varied)?;
    Some(ETHERTYPE_IPV6)
}

/// `None` if there is no room in front.
#[inline(always)]
fn put_ipv4(
    ctx: &XdpContext,
    backend: &Backend,
    length: u32,
    class: u8,
    protocol: u8,
    varied: u32,
) -> Option<()> {
    grow(ctx, IPV4 + udp(protocol))?;
    let outer = at::<[u32; 5]>(ctx, size_of::<Ethernet>())?;
    let header = ipv4(length + IPV4, class, protocol, backend, varied);
    // SAFETY: `at` compared the header with the new end of the packet.
    unsafe { *outer = header };
    Some(())
}

/// As [`put_ipv4`].
#[inline(always)]
fn put_ipv6(
    ctx: &XdpContext,
    backend: &Backend,
    length: u32,
    class: u8,
    protocol: u8,
    varied: u32,
) -> Option<()> {
    grow(ctx, IPV6 + udp(protocol))?;
    let outer = at::<Ipv6>(ctx, size_of::<Ethernet>())?;
    let mut source = backend.tunnel_source.words();
    source[3] |= varied;
    // SAFETY: `at` compared the header with the new end of the packet.
    unsafe {
        (*outer).version_class_label = (6_u32 << 28 | u32::from(class) << 20).to_be();
        (*outer).payload_length = (length as u16).to_be();
        (*outer).next_header = protocol;
        (*outer).hop_limit = TTL;
        (*outer).source = Addr::from_words(source);
        (*outer).destination = backend.address;
    }
    Some(())
}

#[inline(always)]
const fn udp(protocol: u8) -> u32 {
    if protocol == PROTOCOL_UDP { UDP } else { 0 }
}

/// The bits of an outer source address that vary by flow, in network order.
#[inline(always)]
fn varied(spread: u8, vary: u32) -> u32 {
    let mask = if spread >= 32 { u32::MAX } else { (1 << (spread & 31)) - 1 };
    (vary & mask).to_be()
}

/// Five words in network order: the type of service of the inner packet (RFC 2983, RFC 6040), no fragmentation, so that
/// the identification may be 0 (RFC 6864 section 4.1).
#[inline(always)]
fn ipv4(length: u32, class: u8, protocol: u8, backend: &Backend, varied: u32) -> [u32; 5] {
    let length = (length as u16).to_be_bytes();
    // The record has the sum of what is the same for every packet, and of no other protocol than its own.
    let sum = backend.outer_sum
        + u32::from(u16::from_ne_bytes([0, class]))
        + u32::from(u16::from_ne_bytes(length))
        + u32::from(u16::from_ne_bytes([0, protocol]))
        + (varied & 0xffff)
        + (varied >> 16);
    let [low, high] = (!fold_few(sum)).to_ne_bytes();
    [
        u32::from_ne_bytes([0x45, class, length[0], length[1]]),
        u32::from(u16::from_be(Ipv4::DONT_FRAGMENT)).to_be(),
        u32::from_ne_bytes([TTL, protocol, low, high]),
        backend.tunnel_source.v4() | varied,
        backend.address.v4(),
    ]
}
