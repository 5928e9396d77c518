//! What is known of a packet's flow.

use lb_common::flow::{self, REPLY, SEEN_FIN, SEEN_RST};
use lb_common::service::{MOVED, Method, Scheduler, Service};

use super::{Asked, is_turning};
use crate::balance::state::over;
use crate::balance::way_back::reply_key;
use crate::clock::now;
use crate::maps::scratch::Decision;
use crate::maps::{backends, flows, half_open, load};
use crate::packet::Family;

/// What is known of the packet's flow: of a SYN, the flow itself, for only other packets were looked for so far; and the
/// half-open flow.
#[inline(always)]
pub(super) fn recall<A: Family>(packet: &Asked<'_, A>, service: &Service, decision: &mut Decision) {
    if packet.is_syn() && recall_flow(packet, decision) {
        return;
    }
    if service.flags & MOVED == 0
        && !is_turning(service)
        && Scheduler::is_hash(service.scheduler)
        && service.method != Method::FullNat as u8
    {
        return;
    }
    let Some(known) = half_open::get(packet.key) else {
        return;
    };
    if known.state & REPLY != 0 {
        return;
    }
    let number = flow::backend(known.place);
    let serves = backends::get(number).is_some_and(|backend| backends::serves(backend, known.identity));
    if !serves || now().wrapping_sub(known.since) > service.half_open {
        // The flow begins anew, maybe elsewhere, and must not come back by this when the backend does.
        half_open::remove(packet.key);
        return;
    }
    decision.backend = number;
    decision.known = true;
    decision.source = known.address.v4();
    decision.source_port = known.port;
}

/// A client may use the port of a connection that is over again (RFC 9293 section 3.6.1). Anybody can forge a SYN, so it
/// takes nothing away from a flow whose backend has not ended it too.
#[inline(always)]
fn recall_flow<A: Family>(packet: &Asked<'_, A>, decision: &mut Decision) -> bool {
    let Some(slot) = flows::look_up(packet.key) else {
        return false;
    };
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, identity) = unsafe { ((*slot).state, (*slot).place, (*slot).other.as_ref()[0]) };
    if state & REPLY != 0 {
        return false;
    }
    let number = flow::backend(place);
    let Some(backend) = backends::get(number) else {
        return false;
    };
    let method = flow::method(state);
    let mut ended = !backends::serves(backend, identity);
    if method == Method::NAT || method == Method::FULL_NAT {
        let reply_key = reply_key(packet.key, slot, backend);
        let reply = flows::look_up(&reply_key);
        // SAFETY: as above.
        ended |= reply.is_none_or(|reply| over(state, unsafe { (*reply).state }));
        if ended && let Some(reply) = reply {
            flows::end(reply, &reply_key);
        }
    }
    if ended {
        flows::end(slot, packet.key);
        return false;
    }
    // Without a view of the backend's side, a SYN after the end is the beginning of another connection.
    if state & SEEN_FIN != 0 {
        load::add(number, 1);
    }
    flows::clear(slot, SEEN_FIN | SEEN_RST);
    decision.backend = number;
    decision.known_flow = true;
    if method == Method::FULL_NAT {
        // SAFETY: as above.
        decision.source = unsafe { (*slot).other.as_ref()[1] };
        decision.source_port = flow::port(state);
    }
    true
}
