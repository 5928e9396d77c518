//! Address and port of one side rewritten, with the checksums that cover them.

use aya_ebpf::programs::XdpContext;
use lb_common::checksum::Update;

use crate::forward::readdress;
use crate::packet::{Packet, again};

#[inline(always)]
pub(super) fn rewrite_destination(ctx: &XdpContext, packet: &Packet, address: u32, port: u16) {
    // SAFETY: `parse` compared every header with the end of the packet.
    unsafe {
        readdress(packet.ip, packet.key.destination, address, |ip| (*ip).destination = address);
        // Both headers begin with the ports.
        (*packet.udp()).destination = port;
    }
    update_transport(ctx, packet, packet.key.destination, address, packet.key.destination_port, port);
}

#[inline(always)]
pub(super) fn rewrite_source(ctx: &XdpContext, packet: &Packet, address: u32, port: u16) {
    // SAFETY: `parse` compared every header with the end of the packet.
    unsafe {
        readdress(packet.ip, packet.key.source, address, |ip| (*ip).source = address);
        // Both headers begin with the ports.
        (*packet.udp()).source = port;
    }
    update_transport(ctx, packet, packet.key.source, address, packet.key.source_port, port);
}

/// The pseudo-header carries the address too (RFC 9293 section 3.1). A UDP checksum of zero means there is none, and
/// one that comes out as zero is sent as all ones (RFC 768).
#[inline(always)]
fn update_transport(ctx: &XdpContext, packet: &Packet, old: u32, new: u32, old_port: u16, new_port: u16) {
    // SAFETY: `parse` compared every header with the end of the packet.
    unsafe {
        if packet.is_tcp() {
            let Some(tcp) = again(ctx, packet.tcp()) else {
                return;
            };
            (*tcp).checksum = Update::new((*tcp).checksum).u32(old, new).u16(old_port, new_port).finish();
        } else {
            let udp = packet.udp();
            if (*udp).checksum != 0 {
                let sum = Update::new((*udp).checksum).u32(old, new).u16(old_port, new_port).finish();
                (*udp).checksum = if sum == 0 { 0xffff } else { sum };
            }
        }
    }
}
