//! The balancer: which packet is whose, and the path of a packet whose flow is known.

mod known;
mod rest;
pub(crate) mod state;
pub(crate) mod way_back;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::error;
use lb_common::addr::{Addr, V4};
use lb_common::reason::Reason;

use self::known::known;
pub use self::rest::rest;
use crate::maps::{programs, reasons, scratch, stations};
use crate::outcome::Outcome;
use crate::packet::{
    Control, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, Ethernet, at,
};
use crate::vlan;

/// Runs one packet through; returns the XDP action and counts the reason.
///
/// The path of a known flow is inlined, for where the kernel makes returns safe from the processor's faults, one costs as
/// much as half of it. What it does not need is in other programs, which cost this one no registers, and have the stack
/// for themselves: [`ipv6`] and [`rest`].
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    let mut tags = 0;
    let mut family = ethertype(ctx);
    if family == ETHERTYPE_VLAN || family == ETHERTYPE_SERVICE_VLAN {
        tags = vlan::ek_strip(ctx.ctx);
        family = ethertype(ctx);
    }
    match family {
        ETHERTYPE_IPV4 => decided::<V4>(ctx, tags),
        ETHERTYPE_IPV6 => {
            scratch::keep_tags(tags);
            programs::go_on(ctx, programs::IPV6);
            conclude(ctx, Outcome::because(Reason::Internal), tags)
        }
        _ => conclude(ctx, Outcome::because(Reason::NotIp), tags),
    }
}

/// Goes on with an IPv6 packet.
#[inline(always)]
pub fn ipv6(ctx: &XdpContext) -> u32 {
    decided::<Addr>(ctx, scratch::tags())
}

#[inline(always)]
fn decided<A: Control>(ctx: &XdpContext, tags: u64) -> u32 {
    let mut outcome = known::<A>(ctx, tags as u32);
    if outcome.is_open() {
        scratch::keep_tags(tags);
        scratch::keep_outcome(outcome);
        programs::go_on(ctx, programs::REST);
        outcome = Outcome::because(Reason::Internal);
    }
    conclude(ctx, outcome, tags)
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
        complain(ctx.ctx);
    }
    outcome.action()
}

/// A function of its own: what never happens must not cost the rest registers and stack.
#[inline(never)]
fn complain(ctx: *mut xdp_md) {
    error!(
        &XdpContext::new(ctx),
        "a map holds what it never should, or `ek_programs` holds no program; please report this with `bpftool map dump`"
    );
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
