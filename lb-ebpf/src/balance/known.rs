//! The path of a packet whose flow is known, and of a SYN that its service's table decides.

use aya_ebpf::programs::XdpContext;
use lb_common::backend::SERVING;
use lb_common::flow::{self, REPLY, Slot};
use lb_common::hash::flow_hash;
use lb_common::reason::Reason;
use lb_common::service::{Method, STATELESS};

use super::state::touch;
use super::way_back::{follow_return_hop, return_hop};
use super::{elsewhere, for_this_host};
use crate::forward::{self, Ends, Way};
use crate::maps::{backends, counters, flows, listeners, seen, services, tables};
use crate::miss::entry_of;
use crate::outcome::Outcome;
use crate::packet::{Control, Family, Packet, Tcp};

#[inline(always)]
pub(super) fn known<A: Control>(ctx: &XdpContext, tags: u32) -> Outcome {
    let mut why = Reason::Malformed;
    let Some(packet) = A::parse(ctx, &mut why) else {
        return match why {
            Reason::Fragment => Outcome::PIECE,
            Reason::OtherProtocol => Outcome::OTHER,
            why => Outcome::because(why),
        };
    };
    // A SYN is decided by its service, and one with ACK has an option that may have to be lowered.
    if packet.tcp_flags & Tcp::SYN != 0 {
        return if packet.is_bare_syn() { stateless(ctx, &packet) } else { Outcome::UNKNOWN };
    }
    let Some(slot) = flows::find(&packet.key) else {
        return Outcome::UNKNOWN;
    };
    if !for_this_host(ctx, packet.ethernet) {
        // SAFETY: parsing compared the header with the end of the packet.
        return Outcome::because(elsewhere(unsafe { (*packet.ethernet).destination }));
    }
    // SAFETY: a slot stays readable until this program ends.
    if unsafe { (*slot).state } & REPLY != 0 {
        reply_half(ctx, &packet, slot)
    } else {
        forward_half(ctx, &packet, slot, tags)
    }
}

/// A SYN that its service's table decides; that is what a flood is made of.
#[inline(always)]
fn stateless<A: Control>(ctx: &XdpContext, packet: &Packet<A>) -> Outcome {
    let key = &packet.key;
    // Under port 0 is the number of a record of ranges.
    if key.ports.destination == 0 {
        return Outcome::UNKNOWN;
    }
    let protocol = key.protocol as u8;
    let number = match listeners::near(key.destination, key.ports.destination, protocol) {
        Some(number) => number,
        None => A::listener(key.destination, key.ports.destination, protocol),
    };
    let Some(service) = services::get(number) else {
        return Outcome::UNKNOWN;
    };
    if service.flags & STATELESS == 0 || !for_this_host(ctx, packet.ethernet) {
        return Outcome::UNKNOWN;
    }
    let hash = flow_hash(key);
    let Some(number) = tables::get(service.table, entry_of(service, key.source, hash)) else {
        return Outcome::UNKNOWN;
    };
    let Some(backend) = backends::get(number) else {
        return Outcome::UNKNOWN;
    };
    if backend.flags & SERVING == 0 {
        return Outcome::UNKNOWN;
    }
    seen::mark(hash);
    let way = Way { method: u32::from(service.method), source: 0, source_port: 0 };
    let action = forward::to_backend(ctx, packet, &way, backend);
    if action.is_ok() {
        counters::packet(number, packet.frame_length());
    }
    Outcome::of(Reason::Opening, action)
}

#[inline(always)]
fn forward_half<A: Control>(ctx: &XdpContext, packet: &Packet<A>, slot: *mut Slot<A>, tags: u32) -> Outcome {
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, other) = unsafe { ((*slot).state, (*slot).place, (*slot).other) };
    let number = flow::backend(place);
    let Some(backend) = backends::get(number) else {
        return Outcome::because(Reason::Internal);
    };
    if !backends::serves(backend, other.as_ref()[0]) {
        return Outcome::LOST;
    }
    let way = Way { method: flow::method(state), source: other.as_ref()[1], source_port: flow::port(state) };
    if way.method == Method::NAT || way.method == Method::FULL_NAT {
        follow_return_hop(&packet.key, slot, backend, &return_hop(ctx, packet.ethernet, tags));
    }
    touch(&packet.key, packet.tcp_flags, slot, state, number);
    let action = forward::to_backend(ctx, packet, &way, backend);
    if action.is_ok() {
        counters::packet(number, packet.frame_length());
    }
    Outcome::of(Reason::Flow, action)
}

#[inline(always)]
fn reply_half<A: Family>(ctx: &XdpContext, packet: &Packet<A>, slot: *mut Slot<A>) -> Outcome {
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, other) = unsafe { ((*slot).state, (*slot).place, (*slot).other) };
    touch(&packet.key, packet.tcp_flags, slot, state, flow::backend(place));
    let Some(ends) = Ends::of_flow(&packet.key, state, &other) else {
        return Outcome::because(Reason::NoWayBack);
    };
    let action = forward::to_client(ctx, packet, &ends, flow::hop(place));
    if action.is_ok() {
        counters::reply(flow::backend(place), packet.frame_length());
    }
    Outcome::of(Reason::Reply, action)
}
