//! Rewrites: one file a forwarding method.

mod direct;
mod nat;
mod tunnel;

use aya_ebpf::programs::XdpContext;
use lb_common::backend::{Backend, RESOLVED};
use lb_common::checksum::Update;
use lb_common::flow::FlowValue;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::packet::{Ipv4, Packet};
use crate::transmit::transmit;

/// Client to backend. The packet is untouched if this fails.
#[inline(always)]
pub(crate) fn to_backend(
    ctx: &XdpContext,
    packet: &Packet,
    method: u8,
    backend: &Backend,
) -> Result<u32, Reason> {
    check(packet, backend)?;
    match Method::from_u8(method) {
        Some(Method::Nat) => nat::rewrite_destination(ctx, packet, backend.address.v4(), backend.port),
        Some(Method::Tunnel) => tunnel::encapsulate(ctx, packet, backend)?,
        Some(Method::Direct) => direct::rewrite(packet),
        None => return Err(Reason::Internal),
    }
    transmit(ctx, &backend.next_hop)
}

/// Backend to client, `nat`.
#[inline(always)]
pub(crate) fn to_client(ctx: &XdpContext, packet: &Packet, value: &FlowValue) -> Result<u32, Reason> {
    check_ttl(packet)?;
    nat::rewrite_source(ctx, packet, value.address, value.port);
    transmit(ctx, &value.return_hop)
}

/// Whether the packet can go on to the backend.
#[inline(always)]
pub(crate) fn check(packet: &Packet, backend: &Backend) -> Result<(), Reason> {
    if backend.flags & RESOLVED == 0 { Err(Reason::NextHopUnresolved) } else { check_ttl(packet) }
}

/// A forwarder sends on no packet whose time to live would become 0 (RFC 1812 section 5.3.1).
#[inline(always)]
pub(crate) fn check_ttl(packet: &Packet) -> Result<(), Reason> {
    // SAFETY: `parse` compared the header with the end of the packet.
    if unsafe { (*packet.ip).ttl() } <= 1 { Err(Reason::TtlExceeded) } else { Ok(()) }
}

/// Puts one address of an IP header in another's place, by `set`, and counts the hop.
///
/// # Safety
/// `ip` was compared with the end of the packet.
#[inline(always)]
pub(crate) unsafe fn readdress(ip: *mut Ipv4, old: u32, new: u32, set: impl FnOnce(*mut Ipv4)) {
    set(ip);
    // SAFETY: by the caller.
    unsafe { decrement_ttl(ip, Update::new((*ip).checksum).u32(old, new)) };
}

/// Decrements the time to live; the header checksum takes that and whatever `update` already holds.
///
/// # Safety
/// `ip` was compared with the end of the packet.
#[inline(always)]
unsafe fn decrement_ttl(ip: *mut Ipv4, update: Update) {
    // SAFETY: by the caller.
    unsafe {
        let old = (*ip).ttl_protocol;
        (*ip).ttl_protocol[0] = old[0] - 1;
        (*ip).checksum = update.u16(u16::from_ne_bytes(old), u16::from_ne_bytes((*ip).ttl_protocol)).finish();
    }
}
