//! What of a flow is remembered.

use lb_common::addr::Addr;
use lb_common::backend::Backend;
use lb_common::flow::{self, FlowKey, HalfOpen, REPLY, UDP};
use lb_common::reason::Reason;
use lb_common::service::{Method, Service};

use super::Asked;
use super::full_nat;
use crate::balance::state::{ending, over};
use crate::balance::way_back::reply_key_to;
use crate::clock::now;
use crate::maps::scratch::{Decision, Scratch};
use crate::maps::{counters, flows, half_open, hops, scratch, seen};
use crate::packet::{Family, Tcp};

/// Remembers the flow where its first packets show that it should be.
#[inline(always)]
pub(super) fn store<A: Family>(
    packet: &Asked<'_, A>,
    number: u32,
    service: &Service,
    backend: &Backend,
    decision: &mut Decision,
) -> Result<Reason, Reason> {
    let method = u32::from(service.method);
    let replies = method == Method::NAT || method == Method::FULL_NAT;
    let reply = reply_key(packet, backend)?;
    if method == Method::NAT && reply_taken(packet, reply)? {
        return Err(Reason::ReplyTaken);
    }
    // A RST that belongs to nothing ends nothing.
    if packet.tcp_flags() & Tcp::RST != 0 {
        return if method == Method::FULL_NAT && !decision.known {
            Err(Reason::NoService)
        } else {
            Ok(Reason::Untracked)
        };
    }
    let known = !packet.is_bare_syn() && (decision.known || seen::contains(decision.hash));
    let now = now();
    let hop = if replies { hops::number(packet.request.back, now) } else { hops::NONE };
    let half = reply_half(packet, method, number, backend, flow::place(decision.backend, hop), now)?;
    if method == Method::FULL_NAT && !(decision.known && full_nat::is_kept(reply, half, decision)) {
        if decision.known && flows::look_up(packet.key).is_some() {
            // Another CPU has just stored the flow, with this port.
            return Ok(Reason::Flow);
        }
        full_nat::allocate(service, reply, half, decision)?;
    }
    if known {
        return insert(packet, method, backend, reply, decision, hop, now);
    }
    seen::mark(decision.hash);
    if !packet.is_tcp() && !decision.known {
        counters::new_flow(decision.backend);
    }
    if method == Method::NAT || method == Method::FULL_NAT && decision.known {
        // Again for a client that tries again, maybe by another router. A flow whose reply would not find its way back is dropped.
        if !half_open::insert(reply, half, false) {
            return Err(Reason::FlowTableFull);
        }
    }
    if decision.remember || method == Method::FULL_NAT {
        remember(packet, method, half, decision);
    }
    Ok(if decision.by_id { Reason::ConnectionId } else { Reason::Opening })
}

/// The reply half as it is among the half-open flows, in room of this CPU's own.
#[inline(always)]
fn reply_half<A: Family>(
    packet: &Asked<'_, A>,
    method: u32,
    number: u32,
    backend: &Backend,
    place: u32,
    now: u32,
) -> Result<&'static mut HalfOpen, Reason> {
    let Some(scratch) = scratch::get() else {
        return Err(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own.
    let half = unsafe { &mut (*scratch).half };
    half.address = packet.key.destination.mapped();
    half.client = packet.key.source.mapped();
    half.port = packet.key.ports.destination;
    half.client_port = packet.key.ports.source;
    half.state = flow::live(method, REPLY, 0);
    half.place = place;
    half.identity = backend.identity;
    half.since = now;
    half.service = number;
    Ok(half)
}

/// The forward half among the half-open flows.
#[inline(always)]
fn remember<A: Family>(packet: &Asked<'_, A>, method: u32, half: &mut HalfOpen, decision: &Decision) {
    half.address = Addr::from_v4(decision.source);
    half.port = decision.source_port;
    half.state = flow::live(method, 0, 0);
    // Without room the flow goes where the scheduler says the next time.
    let _ = half_open::insert(packet.key, half, false);
}

/// Both halves or none.
#[inline(always)]
fn insert<A: Family>(
    packet: &Asked<'_, A>,
    method: u32,
    backend: &Backend,
    reply: &mut FlowKey<A>,
    decision: &Decision,
    hop: u32,
    now: u32,
) -> Result<Reason, Reason> {
    let bits = ending(packet.tcp_flags()) | if packet.is_tcp() { 0 } else { UDP };
    let place = flow::place(decision.backend, hop);
    let mut other = A::from_mapped(Addr::default()).to_other();
    other.as_mut()[0] = backend.identity;
    other.as_mut()[1] = decision.source;
    let state = flow::live(method, bits, decision.source_port);
    let forward = flows::insert(packet.key, state, now, place, &other);
    if forward == flows::NONE {
        let replies = method == Method::NAT || method == Method::FULL_NAT;
        return if replies { Err(Reason::FlowTableFull) } else { Ok(Reason::Untracked) };
    }
    if (method == Method::NAT || method == Method::FULL_NAT)
        && insert_reply(packet, method, reply, decision, (place, now, bits), forward) == flows::NONE
    {
        flows::remove(packet.key);
        return Err(Reason::FlowTableFull);
    }
    if packet.is_tcp() {
        counters::new_flow(decision.backend);
    }
    if decision.known {
        half_open::remove(packet.key);
    }
    // From here on a fingerprint says that the client began anew.
    seen::forget(decision.hash);
    Ok(if decision.by_id { Reason::ConnectionId } else { Reason::NewFlow })
}

#[inline(always)]
fn insert_reply<A: Family>(
    packet: &Asked<'_, A>,
    method: u32,
    reply: &mut FlowKey<A>,
    decision: &Decision,
    (place, now, bits): (u32, u32, u32),
    forward: u32,
) -> u32 {
    let bits = bits & UDP | REPLY;
    if method == Method::NAT {
        let state = flow::live(method, bits, packet.key.ports.destination);
        let stored = flows::insert(reply, state, now, place, &packet.key.destination.to_other());
        half_open::remove(reply);
        return stored;
    }
    reply.destination = crate::forward::full_nat::source(decision.source);
    reply.ports.destination = decision.source_port;
    let mut other = A::from_mapped(Addr::default()).to_other();
    other.as_mut()[0] = forward;
    let stored = flows::insert(reply, flow::live(method, bits, 0), now, place, &other);
    // The flow table has the port now; until here the half-open flow kept it.
    half_open::remove(reply);
    stored
}

/// The key of the reply half, as it is with `nat`, in room of this CPU's own.
#[inline(always)]
fn reply_key<A: Family>(packet: &Asked<'_, A>, backend: &Backend) -> Result<&'static mut FlowKey<A>, Reason> {
    let Some(scratch) = scratch::get() else {
        return Err(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own.
    let reply = unsafe { &mut *Scratch::key_of::<A>(&raw mut (*scratch).reply_key) };
    *reply = reply_key_to(packet.key, backend, packet.key.source, packet.key.ports.source);
    Ok(reply)
}

/// Whether the backend's replies to this client and port belong to a flow of another listen address. With one backend
/// behind two addresses, a client that uses one port towards both makes two flows the backend cannot tell apart. A flow
/// that is over gives the replies up.
#[inline(always)]
fn reply_taken<A: Family>(packet: &Asked<'_, A>, reply_key: &FlowKey<A>) -> Result<bool, Reason> {
    let Some(reply) = flows::look_up(reply_key) else {
        return Ok(false);
    };
    // SAFETY: a slot stays readable until this program ends.
    let (state, address) = unsafe { ((*reply).state, A::from_other(&(*reply).other)) };
    if address == packet.key.destination && flow::port(state) == packet.key.ports.destination {
        // Its forward half is missing, and comes back now; or another CPU has just stored both.
        if flows::look_up(packet.key).is_none() {
            flows::end(reply, reply_key);
        }
        return Ok(false);
    }
    let Some(scratch) = scratch::get() else {
        return Err(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own.
    let forward_key = unsafe { &mut *Scratch::key_of::<A>(&raw mut (*scratch).other_key) };
    *forward_key = *packet.key;
    forward_key.destination = address;
    forward_key.ports.destination = flow::port(state);
    let Some(forward) = flows::look_up(forward_key) else {
        flows::end(reply, reply_key);
        return Ok(false);
    };
    // SAFETY: as above.
    let over = over(unsafe { (*forward).state }, state);
    if over {
        flows::end(forward, forward_key);
        flows::end(reply, reply_key);
    }
    Ok(!over)
}

/// With `nat` the reply to a packet that was scheduled by itself must find its way back; nothing else is remembered.
#[inline(always)]
pub(super) fn per_packet<A: Family>(
    packet: &Asked<'_, A>,
    number: u32,
    service: &Service,
    backend: &Backend,
    decision: &mut Decision,
) -> Result<Reason, Reason> {
    if service.method != Method::Nat as u8 {
        return Ok(Reason::PerPacket);
    }
    let now = now();
    let hop = hops::number(packet.request.back, now);
    let place = flow::place(decision.backend, hop);
    let half = reply_half(packet, Method::NAT, number, backend, place, now)?;
    let reply = reply_key(packet, backend)?;
    if half_open::insert(reply, half, false) { Ok(Reason::PerPacket) } else { Err(Reason::FlowTableFull) }
}
