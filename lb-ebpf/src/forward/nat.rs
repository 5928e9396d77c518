//! Addresses and ports rewritten, with the checksums that cover them.

use aya_ebpf::programs::XdpContext;
use lb_common::checksum::Update;
use lb_common::flow::{FlowKey, Ports};

use crate::packet::{Family, Packet, again};

#[inline(always)]
pub(crate) fn rewrite_destination<A: Family>(ctx: &XdpContext, packet: &Packet<A>, address: A, port: u16) {
    let FlowKey { source, ports, .. } = packet.key;
    rewrite(ctx, packet, source, address, Ports { source: ports.source, destination: port });
}

/// The pseudo-header carries the addresses too (RFC 9293 section 3.1). A UDP checksum of zero means there is none, and one
/// that comes out as zero is sent as all ones (RFC 768).
#[inline(always)]
pub(crate) fn rewrite<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    source: A,
    destination: A,
    ports: Ports,
) {
    let old = &packet.key;
    // SAFETY: parsing compared every header with the end of the packet.
    unsafe {
        A::readdress(packet.ip, source, destination);
        *packet.transport.cast::<u32>() = ports.word();
        let change = |checksum: u16| {
            let update = A::update(Update::new(checksum), old.source, source);
            A::update(update, old.destination, destination).u32(old.ports.word(), ports.word()).finish()
        };
        if packet.is_tcp() {
            let Some(tcp) = again(ctx, packet.tcp()) else {
                return;
            };
            (*tcp).checksum = change((*tcp).checksum);
        } else {
            let udp = packet.udp();
            if (*udp).checksum != 0 {
                let sum = change((*udp).checksum);
                (*udp).checksum = if sum == 0 { 0xffff } else { sum };
            }
        }
    }
}
