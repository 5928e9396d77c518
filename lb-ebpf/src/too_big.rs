//! The answer to a packet that does not fit into the tunnel: "fragmentation needed" with the size that fits (RFC 1191
//! section 4), to its sender, in the name of the address it was sent to.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::checksum::checksum;

use crate::packet::{Ethernet, Ipv4, PROTOCOL_ICMP, at};

/// The quoted IP header and eight bytes of what it carries (RFC 792).
const QUOTED: usize = 28;
const HEADERS: usize = size_of::<Ipv4>() + 8;
/// Every host takes this much (RFC 791 section 3.2), so there is no point in asking for less.
const LEAST_MTU: u16 = 68;
const TTL: u8 = 64;

/// Turns the packet into the answer, and says whether there is one: none if the sender allows fragments, which the answer
/// would not stop, or if its header has options. A function of its own: what is rare must not cost the rest registers
/// and stack.
#[inline(never)]
pub(crate) fn answer(ctx: *mut xdp_md, mtu: u32) -> bool {
    answered(&XdpContext::new(ctx), mtu as u16).is_some()
}

#[inline(always)]
fn answered(ctx: &XdpContext, mtu: u16) -> Option<()> {
    let (ethernet, ip) = (at::<Ethernet>(ctx, 0)?, at::<Ipv4>(ctx, size_of::<Ethernet>())?);
    // SAFETY: `at` compared both headers with the end of the packet.
    let (ethernet, ip) = unsafe { (*ethernet, *ip) };
    if ip.version_ihl != 0x45 || ip.fragment & Ipv4::DONT_FRAGMENT == 0 || mtu < LEAST_MTU {
        return None;
    }
    let cut = (size_of::<Ethernet>() + QUOTED) as i32 - (ctx.data_end() - ctx.data()) as i32;
    // SAFETY: the context is this program's own.
    unsafe {
        if bpf_xdp_adjust_tail(ctx.ctx, cut) != 0 || bpf_xdp_adjust_head(ctx.ctx, -(HEADERS as i32)) != 0 {
            return None;
        }
    }
    let header = at::<Ethernet>(ctx, 0)?;
    let outer = at::<[u32; 5]>(ctx, size_of::<Ethernet>())?;
    let icmp = at::<[u32; 2]>(ctx, size_of::<Ethernet>() + size_of::<Ipv4>())?;
    let quoted = at::<[u32; 7]>(ctx, size_of::<Ethernet>() + HEADERS)?;
    // SAFETY: `at` compared each with the new end of the packet.
    unsafe {
        *header = Ethernet {
            destination: ethernet.source,
            source: ethernet.destination,
            ethertype: ethernet.ethertype,
        };
        *outer = outer_header(&ip);
        *icmp = icmp_header(mtu, &*quoted);
    }
    Some(())
}

#[inline(always)]
fn outer_header(ip: &Ipv4) -> [u32; 5] {
    let length = (HEADERS + QUOTED) as u8;
    let mut words = [
        u32::from_ne_bytes([0x45, 0, 0, length]),
        u32::from(u16::from_be(Ipv4::DONT_FRAGMENT)).to_be(),
        u32::from_ne_bytes([TTL, PROTOCOL_ICMP, 0, 0]),
        ip.destination.0,
        ip.source.0,
    ];
    let [low, high] = checksum(words).to_ne_bytes();
    words[2] |= u32::from_ne_bytes([0, 0, low, high]);
    words
}

#[inline(always)]
fn icmp_header(mtu: u16, quoted: &[u32; 7]) -> [u32; 2] {
    const UNREACHABLE: u8 = 3;
    const FRAGMENTATION_NEEDED: u8 = 4;
    let [high, low] = mtu.to_be_bytes();
    let kind = u32::from_ne_bytes([UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0]);
    let size = u32::from_ne_bytes([0, 0, high, low]);
    let [a, b, c, d, e, f, g] = *quoted;
    let [first, second] = checksum([kind, size, a, b, c, d, e, f, g]).to_ne_bytes();
    [kind | u32::from_ne_bytes([0, 0, first, second]), size]
}
