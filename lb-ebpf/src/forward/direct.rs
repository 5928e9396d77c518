//! LVS-DR: the backend holds the service's address itself, so only the MAC addresses change.

use lb_common::checksum::Update;

use crate::forward::decrement_ttl;
use crate::packet::Packet;

#[inline(always)]
pub(super) fn rewrite(packet: &Packet) {
    // SAFETY: `parse` compared the header with the end of the packet.
    unsafe { decrement_ttl(packet.ip, Update::new((*packet.ip).checksum)) };
}
