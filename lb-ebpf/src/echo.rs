//! Pings to services' addresses (RFC 792, RFC 4443 section 4.1), answered. An answer is as large as what it answers and goes
//! to its sender, so nobody gains by asking.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::checksum::Update;

use crate::balance::for_this_host;
use crate::maps::addresses;
use crate::packet::{Control, Ethernet, Icmp, at, holds};

/// Turns the packet into the answer, and says whether there is one. A checksum that is wrong stays as wrong as it is, for
/// the sender to see. A function of its own: what is rare must not cost the rest registers and stack.
#[inline(never)]
pub(crate) fn answer<A: Control>(ctx: *mut xdp_md) -> bool {
    answered::<A>(&XdpContext::new(ctx)).is_some()
}

#[inline(always)]
fn answered<A: Control>(ctx: &XdpContext) -> Option<()> {
    let ethernet = at::<Ethernet>(ctx, 0)?;
    let ip = at::<A::Header>(ctx, size_of::<Ethernet>())?;
    let icmp = at::<Icmp>(ctx, size_of::<Ethernet>() + size_of::<A::Header>())?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        let length = A::icmp_packet(ip);
        if length < size_of::<A::Header>() + size_of::<Icmp>()
            || !holds(ctx, size_of::<Ethernet>() + length)
            || (*icmp).kind != A::ECHO_REQUEST
            || (*icmp).code != 0
        {
            return None;
        }
        let (sender, address) = A::addresses(ip);
        if !sender.is_unicast()
            || !address.is_unicast()
            || !addresses::contains(address.mapped())
            || !for_this_host(ctx, ethernet)
        {
            return None;
        }
        A::turn(ip);
        let (old, new) = (u16::from_ne_bytes([A::ECHO_REQUEST, 0]), u16::from_ne_bytes([A::ECHO_REPLY, 0]));
        (*icmp).kind = A::ECHO_REPLY;
        (*icmp).checksum = Update::new((*icmp).checksum).u16(old, new).finish();
        (*ethernet).turn();
    }
    Some(())
}
