//! Replies that are not on the path of a known flow.

use lb_common::flow::{self, HalfOpen, REPLY, Slot};
use lb_common::reason::Reason;

use super::{Answer, Asked, listener};
use crate::balance::state::touch;
use crate::clock::now;
use crate::forward::Ends;
use crate::maps::{flows, half_open, listeners, scratch, services};
use crate::packet::Family;

/// The reply to a packet that opened a `nat` or `fullnat` flow: a SYN-ACK, a RST, the answer to one UDP packet.
#[inline(always)]
pub(super) fn half_open_reply<A: Family>(packet: &Asked<'_, A>) -> Answer {
    if packet.is_syn()
        && let Some(slot) = flows::look_up(packet.key)
        // SAFETY: a slot stays readable until this program ends.
        && unsafe { (*slot).state } & REPLY != 0
    {
        return if packet.is_for_this_host() {
            reply(packet, slot)
        } else {
            Answer::because(Reason::OtherHost)
        };
    }
    let Some(known) = half_open::get(packet.key) else {
        return Answer::because(Reason::NoService);
    };
    if known.state & REPLY == 0 || is_old(known) {
        return Answer::because(Reason::NoService);
    }
    if !packet.is_for_this_host() {
        return Answer::because(Reason::OtherHost);
    }
    if let Some(scratch) = scratch::get() {
        // SAFETY: the record is this CPU's own.
        unsafe { (*scratch).half = *known };
    }
    Answer::reply(Reason::Reply)
}

/// A reply of a flow that is in the table, told as that of a half-open one: for packets that are rare.
#[inline(always)]
pub(crate) fn reply<A: Family>(packet: &Asked<'_, A>, slot: *mut Slot<A>) -> Answer {
    let key = packet.key;
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, other) = unsafe { ((*slot).state, (*slot).place, (*slot).other) };
    touch(key, packet.tcp_flags(), slot, state, flow::backend(place));
    let Some(scratch) = scratch::get() else {
        return Answer::because(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own.
    let half = unsafe { &mut (*scratch).half };
    (half.state, half.place) = (state, place);
    let Some(ends) = Ends::of_flow(key, state, &other) else {
        return Answer::because(Reason::NoWayBack);
    };
    (half.address, half.port) = (ends.service.mapped(), ends.ports.source);
    (half.client, half.client_port) = (ends.client.mapped(), ends.ports.destination);
    half.service = if packet.is_syn() {
        listener(A::from_mapped(half.address), half.port, key.protocol as u8)
    } else {
        listeners::NONE
    };
    Answer::reply(Reason::Reply)
}

/// Too old to tell where a reply goes: the client may have used its port for something else since.
#[inline(always)]
pub(super) fn is_old(known: &HalfOpen) -> bool {
    services::get(known.service).is_none_or(|service| now().wrapping_sub(known.since) > service.half_open)
}
