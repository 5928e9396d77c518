//! A packet whose flow is not in the table: service, scheduler, state.
//!
//! One packet proves nothing about its sender, so a flow enters the flow table with the second packet of its client. The
//! first enters the table of half-open flows, where a flood only pushes out other half-open flows. A bare SYN enters even
//! that only where it must: with `nat`, so that the reply finds its way back. With `tunnel` and `direct` it leaves no
//! state, for the next packet of the connection finds the same backend by the same hash. While a pool is changing, that
//! packet goes by the previous table, and SYNs that the new table moves are remembered.

use aya_ebpf::programs::XdpContext;
use lb_common::backend::{Backend, SERVING};
use lb_common::flow::{FlowValue, Half, VERSION};
use lb_common::hash::{flow_hash, table_entry};
use lb_common::reason::Reason;
use lb_common::service::{Method, NO_TABLE, ServiceValue};

use crate::balance::{ending, now, over, return_hop, serving};
use crate::forward;
use crate::maps::{backends, counters, flows, half_open, maglev, services, stations};
use crate::packet::{Packet, Tcp};

#[inline(always)]
pub(crate) fn handle(ctx: &XdpContext, packet: &Packet) -> Result<(Reason, u32), Reason> {
    let known = half_open::get(&packet.key);
    let Some(service) = services::get(&packet.key) else {
        return half_open_reply(ctx, packet, known);
    };
    if !for_this_host(ctx, packet) {
        return Err(Reason::OtherHost);
    }
    let known = known.filter(|value| value.is_forward() && (!packet.is_bare_syn() || is_recent(value)));
    let choice = match known.filter(|value| serving(value).is_some()) {
        Some(value) => Choice { number: value.backend, remember: false },
        None => choose(packet, &service),
    };
    let Some(backend) = backends::get(choice.number) else {
        return Err(Reason::NoBackend);
    };
    let mut value = forward_value(ctx, packet, &service, choice.number, backend);
    let reason = store(packet, &mut value, known.is_some(), choice.remember)?;
    let action = forward::to_backend(ctx, packet, value.method, backend)?;
    counters::packet(choice.number, packet.frame_length());
    Ok((reason, action))
}

/// XDP sees frames for other hosts too where a switch floods them or somebody captures: the other node of the pair must
/// not forward them a second time.
#[inline(always)]
pub(crate) fn for_this_host(ctx: &XdpContext, packet: &Packet) -> bool {
    // SAFETY: `parse` compared the header with the end of the packet.
    stations::contains(ctx.ingress_ifindex() as u32, unsafe { (*packet.ethernet).destination })
}

/// Jiffies that a half-open flow binds its client's next SYN to its backend: a minute, or six seconds where a second has a
/// thousand. A client that repeats its SYN is back sooner (RFC 6298 section 2); a later one opens another connection.
const HALF_OPEN_BINDS: u32 = 6000;

#[inline(always)]
fn is_recent(value: &FlowValue) -> bool {
    now().wrapping_sub(value.last_seen) < HALF_OPEN_BINDS
}

/// The reply to a packet that opened a `nat` flow: a SYN-ACK, a RST, the answer to one UDP packet.
#[inline(always)]
fn half_open_reply(
    ctx: &XdpContext,
    packet: &Packet,
    known: Option<FlowValue>,
) -> Result<(Reason, u32), Reason> {
    let Some(value) = known.filter(|value| !value.is_forward()) else {
        return Err(Reason::NoService);
    };
    let action = forward::to_client(ctx, packet, &value)?;
    counters::packet(value.backend, packet.frame_length());
    Ok((Reason::Reply, action))
}

/// Numbers and no pointers: what the compiler merges from several branches, the verifier must still know.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    /// Number of the backend, or [`NO_BACKEND`].
    pub(crate) number: u32,
    /// The two tables disagree about this flow.
    remember: bool,
}

/// A number that the map of backends does not have.
const NO_BACKEND: u32 = u32::MAX;

/// The scheduler's choice.
#[inline(always)]
pub(crate) fn choose(packet: &Packet, service: &ServiceValue) -> Choice {
    let entry = table_entry(flow_hash(&packet.key));
    let current = pick(service.table, entry);
    if service.previous == NO_TABLE {
        return Choice { number: current, remember: false };
    }
    let previous = pick(service.previous, entry);
    let midway = packet.is_tcp() && !packet.is_bare_syn();
    let number = if midway && previous != NO_BACKEND { previous } else { current };
    Choice { number, remember: current != previous }
}

#[inline(always)]
fn pick(table: u32, entry: u32) -> u32 {
    if table == NO_TABLE {
        return NO_BACKEND;
    }
    let Some(number) = maglev::get(table, entry) else {
        return NO_BACKEND;
    };
    match backends::get(number) {
        Some(backend) if backend.flags & SERVING != 0 => number,
        _ => NO_BACKEND,
    }
}

#[inline(always)]
fn forward_value(
    ctx: &XdpContext,
    packet: &Packet,
    service: &ServiceValue,
    number: u32,
    backend: &Backend,
) -> FlowValue {
    FlowValue {
        version: VERSION,
        half: Half::Forward as u8,
        method: service.method as u8,
        phase: ending(packet.tcp_flags),
        backend: number,
        service: service.service,
        last_seen: now(),
        address: backend.address.v4(),
        port: backend.port,
        zero: 0,
        return_hop: return_hop(ctx, packet),
    }
}

/// Remembers the flow where its first packets show that it should be.
#[inline(always)]
fn store(packet: &Packet, value: &mut FlowValue, known: bool, remember: bool) -> Result<Reason, Reason> {
    if reply_taken(packet, value) {
        return Err(Reason::ReplyTaken);
    }
    let nat = value.method == Method::Nat as u8;
    if packet.is_bare_syn() {
        if nat || remember {
            insert_half_open(packet, value, nat)?;
        }
        return Ok(Reason::Opening);
    }
    // A RST that belongs to nothing ends nothing.
    if packet.tcp_flags & Tcp::RST != 0 {
        return Ok(Reason::Untracked);
    }
    if !known {
        if !packet.is_tcp() {
            counters::new_flow(value.backend);
        }
        insert_half_open(packet, value, nat)?;
        return Ok(Reason::Opening);
    }
    if insert(packet, value).is_err() {
        return Ok(Reason::Untracked);
    }
    if packet.is_tcp() {
        counters::new_flow(value.backend);
    }
    if nat {
        half_open::remove(&packet.key.other_half(value));
    }
    half_open::remove(&packet.key);
    Ok(Reason::NewFlow)
}

/// Whether the backend's replies to this client and port belong to a flow of another listen address. With one backend
/// behind two addresses, a client that uses one port towards both makes two flows the backend cannot tell apart. A flow
/// that is over gives the replies up.
#[inline(always)]
fn reply_taken(packet: &Packet, value: &FlowValue) -> bool {
    if value.method != Method::Nat as u8 {
        return false;
    }
    let reply_key = packet.key.other_half(value);
    let Some(reply) = flows::get(&reply_key) else {
        return false;
    };
    // SAFETY: an element of the flow table stays readable until this program ends.
    let reply = unsafe { &*reply };
    if reply.address == packet.key.destination && reply.port == packet.key.destination_port {
        return false;
    }
    let forward_key = reply_key.other_half(reply);
    let over = match flows::get(&forward_key) {
        // SAFETY: as above.
        Some(forward) => over(unsafe { (*forward).phase }, reply.phase),
        None => true,
    };
    if over {
        flows::remove(&forward_key);
        flows::remove(&reply_key);
    }
    !over
}

/// Both halves or none.
#[inline(always)]
fn insert(packet: &Packet, value: &mut FlowValue) -> Result<(), i32> {
    flows::insert(&packet.key, value)?;
    if value.method != Method::Nat as u8 {
        return Ok(());
    }
    let other = packet.key.other_half(value);
    turn(packet, value);
    let inserted = flows::insert(&other, value);
    turn_back(value, &other);
    if inserted.is_err() {
        flows::remove(&packet.key);
    }
    inserted
}

/// `must`: a flow whose reply would not find its way back is dropped.
#[inline(always)]
fn insert_half_open(packet: &Packet, value: &mut FlowValue, must: bool) -> Result<(), Reason> {
    let mut inserted = half_open::insert(&packet.key, value);
    if value.method == Method::Nat as u8 {
        let other = packet.key.other_half(value);
        turn(packet, value);
        inserted = inserted.and_then(|()| half_open::insert(&other, value));
        turn_back(value, &other);
    }
    if inserted.is_err() && must { Err(Reason::FlowTableFull) } else { Ok(()) }
}

/// Makes a forward half's value the reply half's, in place: the stack of a BPF program is small.
#[inline(always)]
fn turn(packet: &Packet, value: &mut FlowValue) {
    value.half = Half::Reply as u8;
    value.address = packet.key.destination;
    value.port = packet.key.destination_port;
}

#[inline(always)]
fn turn_back(value: &mut FlowValue, reply_key: &lb_common::flow::FlowKey) {
    value.half = Half::Forward as u8;
    value.address = reply_key.source;
    value.port = reply_key.source_port;
}
