//! IPv4 in IPv4 (RFC 2003): an outer header in front, the packet itself untouched but for its time to live.

use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::backend::Backend;
use lb_common::checksum::{Update, checksum};
use lb_common::reason::Reason;

use crate::forward::decrement_ttl;
use crate::packet::{Ethernet, Ipv4, PROTOCOL_IPIP, Packet, at};
use crate::too_big;

const TTL: u8 = 64;
const OVERHEAD: u16 = size_of::<Ipv4>() as u16;

#[inline(always)]
pub(super) fn encapsulate(ctx: &XdpContext, packet: &Packet, backend: &Backend) -> Result<(), Reason> {
    if packet.ip_length > backend.mtu.saturating_sub(OVERHEAD) {
        let fits = backend.mtu.saturating_sub(OVERHEAD);
        let told = too_big::answer(ctx.ctx, u32::from(fits));
        return Err(if told { Reason::FragmentationNeeded } else { Reason::TooBig });
    }
    // SAFETY: `parse` compared the header with the end of the packet.
    let tos = unsafe {
        decrement_ttl(packet.ip, Update::new((*packet.ip).checksum));
        (*packet.ip).tos
    };
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -i32::from(OVERHEAD)) } != 0 {
        return Err(Reason::NoHeadroom);
    }
    let Some(outer) = at::<[u32; 5]>(ctx, size_of::<Ethernet>()) else {
        return Err(Reason::Internal);
    };
    let header = outer_header(packet.ip_length + OVERHEAD, tos, backend);
    // SAFETY: `at` compared the header with the new end of the packet.
    unsafe { *outer = header };
    Ok(())
}

/// Five words in network order: the type of service of the inner packet (RFC 2983, RFC 6040), no fragmentation, so that
/// the identification may be 0 (RFC 6864 section 4.1).
#[inline(always)]
fn outer_header(length: u16, tos: u8, backend: &Backend) -> [u32; 5] {
    let mut words = [
        u32::from_be_bytes([0x45, tos, (length >> 8) as u8, length as u8]).to_be(),
        u32::from(u16::from_be(Ipv4::DONT_FRAGMENT)).to_be(),
        u32::from_be_bytes([TTL, PROTOCOL_IPIP, 0, 0]).to_be(),
        backend.tunnel_source.v4(),
        backend.address.v4(),
    ];
    let sum = u16::from_be(checksum(words));
    words[2] |= u32::from(sum).to_be();
    words
}
