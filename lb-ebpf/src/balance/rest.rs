//! What is not a packet of a known flow.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::flow;
use lb_common::reason::Reason;

use super::{conclude, ethertype};
use crate::forward::{self, Ends, Way};
use crate::icmp_error::{self, Whose};
use crate::maps::{backends, counters, scratch};
use crate::miss::{self, Answer};
use crate::outcome::Outcome;
use crate::packet::{Control, ETHERTYPE_IPV4, Family, Packet};
use crate::{echo, fragment, mss, reset};

/// Goes on with a packet of which [`super::run`] says nothing yet; returns the XDP action and counts the reason.
///
/// What is needed one after another is in functions of their own: all on one stack they would not fit. Each is called in one
/// place, for the verifier walks through it once for every call.
#[inline(always)]
pub fn rest(ctx: &XdpContext) -> u32 {
    let (tags, known) = (scratch::tags(), scratch::outcome());
    let outcome = if ethertype(ctx) == ETHERTYPE_IPV4 {
        if known == Outcome::OTHER {
            ek_other4(ctx.ctx)
        } else if known == Outcome::PIECE {
            fragment::ek_piece4(ctx.ctx, tags as u32)
        } else {
            ek_send4(ctx.ctx, ek_ask4(ctx.ctx, tags as u32, known.word()))
        }
    } else if known == Outcome::OTHER {
        ek_other6(ctx.ctx)
    } else if known == Outcome::PIECE {
        fragment::ek_piece6(ctx.ctx, tags as u32)
    } else {
        ek_send6(ctx.ctx, ek_ask6(ctx.ctx, tags as u32, known.word()))
    };
    conclude(ctx, Outcome::from_word(outcome), tags)
}

/// `outcome` says what was found out.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_ask4(ctx: *mut xdp_md, tags: u32, outcome: u32) -> u32 {
    ask::<V4>(&XdpContext::new(ctx), tags, Outcome::from_word(outcome) == Outcome::LOST).word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_ask6(ctx: *mut xdp_md, tags: u32, outcome: u32) -> u32 {
    ask::<Addr>(&XdpContext::new(ctx), tags, Outcome::from_word(outcome) == Outcome::LOST).word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_send4(ctx: *mut xdp_md, answer: u32) -> u32 {
    send::<V4>(&XdpContext::new(ctx), Answer::from_word(answer)).word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_send6(ctx: *mut xdp_md, answer: u32) -> u32 {
    send::<Addr>(&XdpContext::new(ctx), Answer::from_word(answer)).word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_other4(ctx: *mut xdp_md) -> u32 {
    other::<V4>(ctx).word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_other6(ctx: *mut xdp_md) -> u32 {
    other::<Addr>(ctx).word()
}

/// What to do with a packet whose flow is not known.
#[inline(always)]
fn ask<A: miss::Called>(ctx: &XdpContext, tags: u32, lost: bool) -> Answer {
    let mut why = Reason::Malformed;
    match A::parse(ctx, &mut why) {
        Some(packet) => miss::ask(ctx, &packet, tags, lost),
        None => Answer::because(why),
    }
}

/// What to do with a packet that is neither TCP nor UDP.
#[inline(always)]
fn other<A: Whose>(ctx: *mut xdp_md) -> Outcome {
    if echo::answer::<A>(ctx) { Outcome::because(Reason::Echo) } else { icmp_error::run::<A>(ctx) }
}

/// Does it.
#[inline(always)]
fn send<A: Control>(ctx: &XdpContext, answer: Answer) -> Outcome {
    if !answer.is_forward() && !answer.is_reply() {
        return reset::or_reason::<A>(ctx, answer);
    }
    mss::lower::<A>(ctx, answer);
    let mut why = Reason::Malformed;
    let Some(packet) = A::parse(ctx, &mut why) else {
        return Outcome::because(why);
    };
    if answer.is_reply() {
        return half_open_reply(ctx, &packet);
    }
    let Some(backend) = backends::get(answer.backend()) else {
        return Outcome::because(Reason::Internal);
    };
    match forward::to_backend(ctx, &packet, &Way::by(answer), backend) {
        Ok(action) => {
            counters::packet(answer.backend(), packet.frame_length());
            Outcome::sent_by(answer.reason(), action)
        }
        Err(reason) => Outcome::because(reason),
    }
}

/// To the client that the half-open flow in the scratch record names.
#[inline(always)]
fn half_open_reply<A: Family>(ctx: &XdpContext, packet: &Packet<A>) -> Outcome {
    let Some(scratch) = scratch::get() else {
        return Outcome::because(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own.
    let known = unsafe { &(*scratch).half };
    let backend = flow::backend(known.place);
    let ends = Ends::of_half_open(&packet.key, known);
    let action = forward::to_client(ctx, packet, &ends, flow::hop(known.place));
    if action.is_ok() {
        counters::reply(backend, packet.frame_length());
    }
    Outcome::of(Reason::Reply, action)
}
