//! Out of the interface the packet came in by, or another one.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::backend::NextHop;
use lb_common::reason::Reason;

use crate::maps::interfaces;
use crate::packet::{Ethernet, at};
use crate::vlan;

/// Writes the Ethernet header and says by which action the frame leaves.
#[inline(always)]
pub(crate) fn transmit(ctx: &XdpContext, hop: &NextHop, ethertype: u16) -> Result<u32, Reason> {
    // A tunnel header has moved the start of the frame.
    let Some(ethernet) = at::<Ethernet>(ctx, 0) else {
        return Err(Reason::Internal);
    };
    // SAFETY: `at` compared the header with the end of the packet.
    unsafe {
        // Both addresses by words: they are beside each other in the record as in the header.
        *ethernet.cast::<[u32; 3]>() = *core::ptr::from_ref(hop).cast::<[u32; 3]>();
        (*ethernet).ethertype = ethertype;
    }
    if hop.tags != 0 && !vlan::push(ctx.ctx, hop.tags) {
        return Err(Reason::NoHeadroom);
    }
    if hop.ifindex == ctx.ingress_ifindex() as u32 {
        Ok(xdp_action::XDP_TX)
    } else {
        interfaces::redirect(hop.ifindex).ok_or(Reason::InterfaceNotListed)
    }
}
