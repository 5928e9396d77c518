//! On a backend without a tunnel device: removes the IPIP header (RFC 2003) and leaves the packet to the kernel.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;

use crate::maps::decap;
use crate::packet::{ETHERTYPE_IPV4, Ethernet, Ipv4, PROTOCOL_IPIP, at, holds};

/// What is no tunnel packet for a listed destination passes as it came.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    match inner(ctx) {
        Some(ethernet) => remove_outer(ctx, ethernet),
        None => xdp_action::XDP_PASS,
    }
}

/// The Ethernet header, if the frame carries IPv4 in IPv4 for this backend.
#[inline(always)]
fn inner(ctx: &XdpContext) -> Option<Ethernet> {
    let ethernet: *mut Ethernet = at(ctx, 0)?;
    let outer: *mut Ipv4 = at(ctx, size_of::<Ethernet>())?;
    let inner: *mut Ipv4 = at(ctx, size_of::<Ethernet>() + size_of::<Ipv4>())?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        let length = u16::from_be((*outer).total_length) as usize;
        let ours = (*ethernet).ethertype == ETHERTYPE_IPV4
            && (*outer).version_ihl == 0x45
            && (*outer).protocol() == PROTOCOL_IPIP
            && (*outer).fragment & Ipv4::FRAGMENT_MASK == 0
            && length >= 2 * size_of::<Ipv4>()
            && holds(ctx, size_of::<Ethernet>() + length)
            && (*inner).version_ihl >> 4 == 4
            && decap::contains((*outer).destination.0);
        ours.then(|| *ethernet)
    }
}

#[inline(always)]
fn remove_outer(ctx: &XdpContext, header: Ethernet) -> u32 {
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, size_of::<Ipv4>() as i32) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    let Some(ethernet) = at::<Ethernet>(ctx, 0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: `at` compared the header with the new end of the packet.
    unsafe { *ethernet = header };
    xdp_action::XDP_PASS
}
