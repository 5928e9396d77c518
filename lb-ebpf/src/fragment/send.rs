//! Rewrites, with a transport header wherever it is, or none.

use aya_ebpf::programs::XdpContext;
use lb_common::backend::{Backend, NextHop};
use lb_common::flow::{self, FlowKey, Ports};
use lb_common::reason::Reason;
use lb_common::service::Method;

use super::piece;
use crate::forward::{self, Ends, Way, direct, full_nat, nat, tunnel};
use crate::maps::scratch::Piece;
use crate::maps::{backends, counters, hops, scratch};
use crate::miss::Answer;
use crate::outcome::Outcome;
use crate::packet::{Control, Ethernet, Packet, Udp, at};
use crate::transmit::transmit;
use crate::{mss, reset};

/// Does what was decided.
#[inline(always)]
pub(super) fn send<A: Control>(ctx: &XdpContext, answer: Answer) -> Outcome {
    if !answer.is_forward() && !answer.is_reply() {
        return reset::or_reason::<A>(ctx, answer);
    }
    let Some(piece) = piece() else {
        return Outcome::because(Reason::Internal);
    };
    if piece.transport != 0 && mss::announces() {
        mss::ek_lower(ctx.ctx, answer.word(), piece.transport);
    }
    let Some(packet) = packet::<A>(ctx, piece) else {
        return Outcome::because(Reason::Internal);
    };
    let whole = piece.transport != 0;
    let action = if answer.is_reply() {
        to_client(ctx, &packet, whole)
    } else {
        to_backend(ctx, &packet, whole, answer)
    };
    match action {
        Ok(action) => Outcome::sent_by(answer.reason(), action),
        Err(reason) => Outcome::because(reason),
    }
}

/// Pointers to the headers. Without a transport header, that one is to anything.
#[inline(always)]
fn packet<A: Control>(ctx: &XdpContext, piece: &Piece) -> Option<Packet<A>> {
    /// No chain of headers is longer.
    const FARTHEST: u32 = 0x3fff;
    let scratch = scratch::get()?;
    // SAFETY: the record is this CPU's own, and holds a key of this family.
    let key = unsafe { *(&raw const (*scratch).request.key).cast::<FlowKey<A>>() };
    let transport = at::<Udp>(ctx, (piece.transport & FARTHEST) as usize)?;
    Some(Packet {
        ethernet: at(ctx, 0)?,
        ip: at(ctx, size_of::<Ethernet>())?,
        transport: transport.cast(),
        key: FlowKey { ports: Ports::from_word(piece.first.ports), ..key },
        ip_length: piece.ip_length,
        tcp_flags: 0,
    })
}

#[inline(always)]
fn to_backend<A: Control>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    whole: bool,
    answer: Answer,
) -> Result<u32, Reason> {
    let Some(backend) = backends::get(answer.backend()) else {
        return Err(Reason::Internal);
    };
    let way = Way::by(answer);
    forward::check(ctx, packet, backend, tunnel::overhead(way.method, backend))?;
    let action = if way.method == Method::TUNNEL {
        tunnel::encapsulate(ctx, packet, backend)?
    } else {
        if way.method == Method::DIRECT {
            direct::rewrite(packet);
        } else {
            translate(ctx, packet, whole, &way, backend);
        }
        transmit(ctx, &backend.next_hop, A::ETHERTYPE)?
    };
    counters::packet(answer.backend(), packet.frame_length());
    Ok(action)
}

#[inline(always)]
fn translate<A: Control>(ctx: &XdpContext, packet: &Packet<A>, whole: bool, way: &Way, backend: &Backend) {
    let FlowKey { source, ports, .. } = packet.key;
    let full = way.method == Method::FULL_NAT;
    rewrite(
        ctx,
        packet,
        whole,
        if full { full_nat::source(way.source) } else { source },
        A::from_mapped(backend.address),
        Ports {
            source: if full { way.source_port } else { ports.source },
            destination: forward::port(backend, ports.destination),
        },
    );
}

/// To the client that the half-open flow in the scratch record names.
#[inline(always)]
fn to_client<A: Control>(ctx: &XdpContext, packet: &Packet<A>, whole: bool) -> Result<u32, Reason> {
    let Some(scratch) = scratch::get() else {
        return Err(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own.
    let known = unsafe { &(*scratch).half };
    forward::check_hops_left(packet)?;
    let Some(hop): Option<&NextHop> = hops::get(flow::hop(known.place)) else {
        return Err(Reason::NoWayBack);
    };
    let ends = Ends::of_half_open(&packet.key, known);
    rewrite(ctx, packet, whole, ends.service, ends.client, ends.ports);
    let backend = flow::backend(known.place);
    let action = transmit(ctx, hop, A::ETHERTYPE)?;
    counters::reply(backend, packet.frame_length());
    Ok(action)
}

/// The transport checksum is in the first fragment, and covers all of them: what the addresses change is written there.
#[inline(always)]
fn rewrite<A: Control>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    whole: bool,
    source: A,
    destination: A,
    ports: Ports,
) {
    if whole {
        nat::rewrite(ctx, packet, source, destination, ports);
    } else {
        // SAFETY: `packet` compared the header with the end of the packet.
        unsafe { A::readdress(packet.ip, source, destination) };
    }
}
