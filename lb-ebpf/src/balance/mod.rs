//! The balancer: which packet is whose, and the path of a packet whose flow is known.

mod known;
pub(crate) mod state;
pub(crate) mod way_back;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::error;
use lb_common::addr::{Addr, V4};
use lb_common::flow;
use lb_common::reason::Reason;

use self::known::known;
use crate::forward::{self, Ends, Way};
use crate::icmp_error::{self, Whose};
use crate::maps::{backends, counters, reasons, scratch, stations};
use crate::miss::{self, Answer};
use crate::outcome::Outcome;
use crate::packet::{
    Control, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, Ethernet, Family,
    Packet, at,
};
use crate::{echo, fragment, mss, reset, vlan};

/// Runs one packet through; returns the XDP action and counts the reason.
///
/// The path of a known flow, and what the rest needs after it, are functions of their own, called one after another: all on one
/// stack they would not fit, and what is rare must not cost the rest registers. Each is called in one place, for the verifier
/// walks through it once for every call.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    let mut tags = 0;
    let mut family = ethertype(ctx);
    if family == ETHERTYPE_VLAN || family == ETHERTYPE_SERVICE_VLAN {
        tags = vlan::strip(ctx.ctx);
        family = ethertype(ctx);
    }
    let outcome = if family == ETHERTYPE_IPV4 {
        let outcome = ek_known4(ctx.ctx, tags as u32);
        if !Outcome::from_word(outcome).is_open() {
            outcome
        } else if outcome == Outcome::OTHER.word() {
            ek_other4(ctx.ctx)
        } else if outcome == Outcome::PIECE.word() {
            fragment::ek_piece4(ctx.ctx, tags as u32)
        } else {
            ek_send4(ctx.ctx, ek_ask4(ctx.ctx, tags as u32, outcome))
        }
    } else if family == ETHERTYPE_IPV6 {
        let outcome = ek_known6(ctx.ctx, tags as u32);
        if !Outcome::from_word(outcome).is_open() {
            outcome
        } else if outcome == Outcome::OTHER.word() {
            ek_other6(ctx.ctx)
        } else if outcome == Outcome::PIECE.word() {
            fragment::ek_piece6(ctx.ctx, tags as u32)
        } else {
            ek_send6(ctx.ctx, ek_ask6(ctx.ctx, tags as u32, outcome))
        }
    } else {
        Outcome::because(Reason::NotIp).word()
    };
    conclude(ctx, Outcome::from_word(outcome), tags)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_known4(ctx: *mut xdp_md, tags: u32) -> u32 {
    known::<V4>(&XdpContext::new(ctx), tags).word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_known6(ctx: *mut xdp_md, tags: u32) -> u32 {
    known::<Addr>(&XdpContext::new(ctx), tags).word()
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

/// 0 for a frame that is too short to have one.
#[inline(always)]
fn ethertype(ctx: &XdpContext) -> u16 {
    match at::<Ethernet>(ctx, 0) {
        // SAFETY: `at` compared the header with the end of the packet.
        Some(ethernet) => unsafe { (*ethernet).ethertype },
        None => 0,
    }
}

/// Counts the reason and says the action. What passes goes to the kernel with the tags it came with, and an answer goes
/// back with them.
#[inline(always)]
fn conclude(ctx: &XdpContext, outcome: Outcome, tags: u64) -> u32 {
    let stays = outcome.action() == xdp_action::XDP_PASS || Reason::is_answer(outcome.reason());
    let restored = tags == 0 || !stays || vlan::restore(ctx.ctx, tags);
    let outcome = if restored { outcome } else { Outcome::because(Reason::NoHeadroom) };
    reasons::count(outcome.reason());
    if outcome.reason() == Reason::Internal as u32 {
        error!(ctx, "a map holds what it never should; please report this with `bpftool map dump`");
    }
    outcome.action()
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

/// XDP sees frames for other hosts too where a switch floods them or somebody captures: the other node of the pair must
/// not forward them a second time.
#[inline(always)]
pub(crate) fn for_this_host(ctx: &XdpContext, ethernet: *mut Ethernet) -> bool {
    // SAFETY: parsing compared the header with the end of the packet.
    stations::contains(ctx.ingress_ifindex() as u32, unsafe { (*ethernet).destination })
}

/// Why a packet of a service is not forwarded that was sent to this address, which is none of this host's. A backup drops what
/// is for the virtual router (RFC 9568 section 6.4.2); and when it becomes master, the kernel, which has the service's
/// address as soon as the interface is up, must not refuse connections before this program knows of it.
#[inline(always)]
pub(crate) fn elsewhere(destination: [u8; 6]) -> Reason {
    if let [0, 0, 0x5e, 0, 1 | 2, _] = destination { Reason::NotMaster } else { Reason::OtherHost }
}
