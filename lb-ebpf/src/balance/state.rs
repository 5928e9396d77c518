//! What packets show of their connection's state.

use lb_common::flow::{FlowKey, REPLY, SEEN_FIN, SEEN_RST, Slot};
use lb_common::hash::flow_hash;

use crate::clock::now;
use crate::maps::{flows, load, seen};
use crate::packet::{Family, Tcp};

/// Jiffies between two writes of `last_seen`: a flow's cache line stays clean in between.
const TOUCH_INTERVAL: u32 = 64;

#[inline(always)]
pub(crate) fn touch<A: Family>(
    key: &FlowKey<A>,
    tcp_flags: u8,
    slot: *mut Slot<A>,
    state: u32,
    backend: u32,
) {
    let now = now();
    // SAFETY: a slot stays writable until this program ends.
    unsafe {
        if now.wrapping_sub((*slot).last_seen) > TOUCH_INTERVAL {
            (*slot).last_seen = now;
        }
    }
    let ending = tcp_flags & (Tcp::FIN | Tcp::RST);
    if ending != 0 {
        // A RST may be forged, and taken back by the next packet.
        if ending & Tcp::FIN != 0 && state & (SEEN_FIN | REPLY) == 0 {
            load::add(backend, -1);
        }
        flows::set(slot, self::ending(tcp_flags));
    } else if state & (SEEN_FIN | SEEN_RST) != 0 {
        // Who goes on after a RST did not send it, and who goes on after a SYN that did not ask for the flow began anew.
        let anew = state & (SEEN_FIN | REPLY) == SEEN_FIN && seen::contains(flow_hash(key));
        if anew {
            load::add(backend, 1);
        }
        flows::clear(slot, if anew { SEEN_FIN | SEEN_RST } else { SEEN_RST });
    }
}

/// State bits for the flags of a packet that ends a connection.
#[inline(always)]
pub(crate) const fn ending(flags: u8) -> u32 {
    let mut bits = 0;
    if flags & Tcp::FIN != 0 {
        bits |= SEEN_FIN;
    }
    if flags & Tcp::RST != 0 {
        bits |= SEEN_RST;
    }
    bits
}

/// Whether a `nat` flow is over, by what its halves have shown. What the client's side shows may be forged; the backend
/// believes no packet whose sequence number does not fit (RFC 9293 section 3.10.7.4).
#[inline(always)]
pub(crate) const fn over(forward: u32, reply: u32) -> bool {
    reply & SEEN_RST != 0 || forward & reply & SEEN_FIN != 0
}
