//! Flows whose backend serves no more.

use lb_common::flow::{self, SEEN_FIN, SEEN_RST};
use lb_common::service::Method;

use super::Asked;
use crate::balance::way_back::reply_key;
use crate::maps::{backends, flows, load};
use crate::packet::Family;

/// A flow whose client is sent a RST stays in the table: a RST that meets bytes of the backend on their way is older than
/// what the client expects next, and is not believed (RFC 5961 section 3.2). The client has to get what the backend still
/// sends, and to acknowledge it, for a RST that it believes.
#[inline(always)]
pub(super) fn mark_reset<A: Family>(packet: &Asked<'_, A>) {
    let Some(slot) = flows::look_up(packet.key) else {
        return;
    };
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, identity) = unsafe { ((*slot).state, (*slot).place, (*slot).other.as_ref()[0]) };
    if state & (SEEN_FIN | SEEN_RST) == 0
        && let Some(backend) = backends::get(flow::backend(place))
        && backend.identity == identity
    {
        load::add(flow::backend(place), -1);
    }
    flows::set(slot, SEEN_RST);
}

/// Takes a flow whose backend serves no more out of the table, with its reply half where that can still be told.
#[inline(always)]
pub(super) fn forget<A: Family>(packet: &Asked<'_, A>) {
    let Some(slot) = flows::look_up(packet.key) else {
        return;
    };
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, identity) = unsafe { ((*slot).state, (*slot).place, (*slot).other.as_ref()[0]) };
    let method = flow::method(state);
    if (method == Method::NAT || method == Method::FULL_NAT)
        && let Some(backend) = backends::get(flow::backend(place))
        && backend.identity == identity
    {
        flows::remove(&reply_key(packet.key, slot, backend));
    }
    flows::end(slot, packet.key);
}
