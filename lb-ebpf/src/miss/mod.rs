//! A packet whose flow is not in the table: service, scheduler, state.
//!
//! One packet proves nothing about its sender, so a flow enters the flow table with the second packet of its client. The
//! first leaves a fingerprint, which costs a flood a store of four bytes each. Only what no table could tell again enters
//! the table of half-open flows, where a flood pushes out other half-open flows: with `nat` the reply half, so that the
//! reply finds its way back; the forward half where the scheduler would choose another backend the next time.
//!
//! A bare SYN to a service whose flows are where its table says is forwarded without a look at the flow table, and with
//! `tunnel` and `direct` leaves no state but its fingerprint: the next packet finds the same backend by the same hash.
//! While a pool is changing, that packet goes by the previous table, and SYNs that the new table moves are remembered.

mod admit;
mod choose;
mod full_nat;
mod quic;
mod store;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::backend::{Backend, SERVING};
use lb_common::flow::{self, HalfOpen, REPLY, SEEN_FIN, SEEN_RST};
use lb_common::hash::flow_hash;
use lb_common::reason::Reason;
use lb_common::service::{MOVED, Method, NO_TABLE, PER_PACKET, RESET, Scheduler, Service};

pub(crate) use choose::NO_BACKEND;

use crate::balance::{for_this_host, now, over, reply_key};
use crate::forward;
use crate::maps::{backends, counters, flows, half_open, listeners, seen, services};
use crate::outcome::Outcome;
use crate::packet::{Family, Packet};
use crate::reset;
use store::Decision;

/// The two ways here, as functions of their own for each family: what is not the path of a known flow must not cost that
/// registers and stack.
pub(crate) trait Called: Family {
    /// The flow is not known, or the packet is a SYN.
    fn miss(ctx: &XdpContext, packet: &Packet<Self>, tags: u32) -> Outcome;
    /// The flow's backend serves no more.
    fn lost(ctx: &XdpContext, packet: &Packet<Self>, tags: u32) -> Outcome;
}

impl Called for V4 {
    #[inline(always)]
    fn miss(ctx: &XdpContext, packet: &Packet<Self>, tags: u32) -> Outcome {
        Outcome::from_word(miss4(ctx.ctx, packet, tags, 0))
    }

    #[inline(always)]
    fn lost(ctx: &XdpContext, packet: &Packet<Self>, tags: u32) -> Outcome {
        Outcome::from_word(miss4(ctx.ctx, packet, tags, 1))
    }
}

impl Called for Addr {
    #[inline(always)]
    fn miss(ctx: &XdpContext, packet: &Packet<Self>, tags: u32) -> Outcome {
        Outcome::from_word(miss6(ctx.ctx, packet, tags, 0))
    }

    #[inline(always)]
    fn lost(ctx: &XdpContext, packet: &Packet<Self>, tags: u32) -> Outcome {
        Outcome::from_word(miss6(ctx.ctx, packet, tags, 1))
    }
}

#[inline(never)]
fn miss4(ctx: *mut xdp_md, packet: &Packet<V4>, tags: u32, lost: u32) -> u32 {
    handle(&XdpContext::new(ctx), packet, tags, lost != 0).word()
}

#[inline(never)]
fn miss6(ctx: *mut xdp_md, packet: &Packet<Addr>, tags: u32, lost: u32) -> u32 {
    handle(&XdpContext::new(ctx), packet, tags, lost != 0).word()
}

/// The service that listens on an address and port.
#[inline(always)]
pub(crate) fn listener<A: Family>(address: A, port: u16, protocol: u8) -> u32 {
    let exact = A::listener(address, port, protocol);
    if exact != listeners::NONE {
        return exact;
    }
    let ranged = A::listener(address, 0, protocol);
    if ranged == listeners::NONE { listeners::NONE } else { listeners::in_ranges(ranged, port) }
}

#[inline(always)]
fn handle<A: Family>(ctx: &XdpContext, packet: &Packet<A>, tags: u32, lost: bool) -> Outcome {
    let key = &packet.key;
    let number = listener(key.destination, key.ports.destination, key.protocol as u8);
    let Some(service) = services::get(number) else {
        return if lost { Outcome::because(Reason::NoBackend) } else { half_open_reply(ctx, packet) };
    };
    if !for_this_host(ctx, packet.ethernet) {
        return Outcome::because(Reason::OtherHost);
    }
    if lost {
        forget(packet);
        if service.flags & RESET != 0 && packet.is_tcp() && !packet.is_bare_syn() {
            return Outcome::because(if reset::answer(ctx.ctx) { Reason::Reset } else { Reason::NoBackend });
        }
    }
    match new(ctx, packet, tags, number, service) {
        Ok(outcome) => outcome,
        Err(reason) => Outcome::because(reason),
    }
}

#[inline(always)]
fn new<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    tags: u32,
    number: u32,
    service: &Service,
) -> Result<Outcome, Reason> {
    admit::listed(packet, number, service)?;
    let hash = flow_hash(&packet.key);
    let mut decision = Decision::new(hash);
    if service.flags & PER_PACKET == 0 && !is_stateless(packet, service) {
        recall(packet, service, &mut decision);
    }
    if decision.backend == NO_BACKEND && service.quic_length != 0 && !packet.is_tcp() {
        decision.backend = quic::named(ctx, packet, number, service);
        decision.by_id = decision.backend != NO_BACKEND;
        decision.remember = decision.by_id;
    }
    if decision.backend == NO_BACKEND {
        if packet.is_bare_syn() || !seen::contains(decision.hash) {
            admit::limited(packet, number, service)?;
        }
        choose::choose(packet, number, service, &mut decision)?;
    }
    let Some(backend) = backends::get(decision.backend) else {
        return Err(Reason::NoBackend);
    };
    let method = u32::from(service.method);
    let reason = if decision.known_flow {
        Reason::Flow
    } else if service.flags & PER_PACKET != 0 {
        store::per_packet(ctx, packet, number, service, backend, &mut decision, tags)?
    } else {
        store::store(ctx, packet, number, service, backend, &mut decision, tags)?
    };
    let action = if method == Method::FULL_NAT {
        let source = forward::full_nat::source(decision.source);
        forward::full_nat::rewrite(ctx, packet, backend, source, decision.source_port)
    } else {
        forward::to_backend(ctx, packet, method, backend)
    };
    if action.is_ok() {
        counters::packet(decision.backend, packet.frame_length());
    }
    Ok(Outcome::of(reason, action))
}

/// Whether the packet is a SYN that the service's table alone decides.
#[inline(always)]
fn is_stateless<A: Family>(packet: &Packet<A>, service: &Service) -> bool {
    packet.is_bare_syn()
        && service.flags & MOVED == 0
        && Scheduler::is_hash(service.scheduler)
        && (service.method == Method::Tunnel as u8 || service.method == Method::Direct as u8)
}

/// What is known of the packet's flow: of a SYN, the flow itself, for only other packets were looked for so far; and the
/// half-open flow.
#[inline(always)]
fn recall<A: Family>(packet: &Packet<A>, service: &Service, decision: &mut Decision) {
    if packet.is_bare_syn() && recall_flow(packet, decision) {
        return;
    }
    if service.flags & MOVED == 0 && Scheduler::is_hash(service.scheduler) && service.method != Method::FullNat as u8 {
        return;
    }
    let Some(known) = half_open::get(&packet.key) else {
        return;
    };
    if known.state & REPLY != 0 || now().wrapping_sub(known.since) > service.half_open {
        return;
    }
    let number = flow::backend(known.place);
    let serves = backends::get(number).is_some_and(|backend| serves(backend, known.identity));
    if serves {
        decision.backend = number;
        decision.known = true;
        decision.source = known.address.v4();
        decision.source_port = known.port;
    }
}

/// A client may use the port of a connection that is over again (RFC 9293 section 3.6.1). Anybody can forge a SYN, so it
/// takes nothing away from a flow whose backend has not ended it too.
#[inline(always)]
fn recall_flow<A: Family>(packet: &Packet<A>, decision: &mut Decision) -> bool {
    let Some(slot) = flows::look_up(&packet.key) else {
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
    let mut ended = !serves(backend, identity);
    if method == Method::NAT || method == Method::FULL_NAT {
        let reply_key = reply_key(&packet.key, slot, backend);
        let reply = flows::look_up(&reply_key);
        // SAFETY: as above.
        ended |= reply.is_none_or(|reply| over(state, unsafe { (*reply).state }));
        if ended && let Some(reply) = reply {
            flows::kill(reply);
        }
    }
    if ended {
        flows::kill(slot);
        return false;
    }
    // Without a view of the backend's side, a SYN after the end is the beginning of another connection.
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

#[inline(always)]
fn serves(backend: &Backend, identity: u32) -> bool {
    backend.flags & SERVING != 0 && backend.identity == identity
}

/// Takes a flow whose backend serves no more out of the table, with its reply half where that can still be told.
#[inline(always)]
fn forget<A: Family>(packet: &Packet<A>) {
    let Some(slot) = flows::look_up(&packet.key) else {
        return;
    };
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, identity) = unsafe { ((*slot).state, (*slot).place, (*slot).other.as_ref()[0]) };
    let method = flow::method(state);
    if (method == Method::NAT || method == Method::FULL_NAT)
        && let Some(backend) = backends::get(flow::backend(place))
        && backend.identity == identity
    {
        flows::remove(&reply_key(&packet.key, slot, backend));
    }
    flows::kill(slot);
}

/// The reply to a packet that opened a `nat` or `fullnat` flow: a SYN-ACK, a RST, the answer to one UDP packet.
#[inline(always)]
fn half_open_reply<A: Family>(ctx: &XdpContext, packet: &Packet<A>) -> Outcome {
    let Some(known) = half_open::get(&packet.key) else {
        return Outcome::because(Reason::NoService);
    };
    if known.state & REPLY == 0 || is_old(known) {
        return Outcome::because(Reason::NoService);
    }
    if !for_this_host(ctx, packet.ethernet) {
        return Outcome::because(Reason::OtherHost);
    }
    let service = A::from_mapped(known.address);
    let action = if flow::method(known.state) == Method::FULL_NAT {
        let client = A::from_mapped(known.client);
        let ports = flow::Ports { source: known.port, destination: known.client_port };
        forward::full_nat::to(ctx, packet, (service, client), ports, flow::hop(known.place))
    } else {
        forward::to_client(ctx, packet, service, known.port, flow::hop(known.place))
    };
    if action.is_ok() {
        counters::reply(flow::backend(known.place), packet.frame_length());
    }
    Outcome::of(Reason::Reply, action)
}

/// Too old to tell where a reply goes: the client may have used its port for something else since.
#[inline(always)]
fn is_old(known: &HalfOpen) -> bool {
    services::get(known.service).is_none_or(|service| now().wrapping_sub(known.since) > service.half_open)
}

/// Whether the service's table has changed so lately that connections may still be opening by the previous one.
#[inline(always)]
const fn is_turning(service: &Service) -> bool {
    service.previous != NO_TABLE
}
