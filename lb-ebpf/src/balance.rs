//! The balancer: which packet is whose, and the path of a packet whose flow is known.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::error;
use lb_common::backend::{Backend, NextHop, SERVING};
use lb_common::flow::{FlowValue, SEEN_FIN, SEEN_RST};
use lb_common::reason::{Reason, Verdict};
use lb_common::service::Method;

use crate::maps::{backends, counters, flows, reasons};
use crate::packet::{Packet, Tcp, at, parse};
use crate::{forward, icmp_error, miss};

/// Runs one packet through; returns the XDP action and counts the reason.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    match balance(ctx) {
        Err(Reason::OtherProtocol) => icmp_error::run(ctx.ctx),
        outcome => conclude(ctx, outcome),
    }
}

/// Counts the reason and says the action.
#[inline(always)]
pub(crate) fn conclude(ctx: &XdpContext, outcome: Result<(Reason, u32), Reason>) -> u32 {
    match outcome {
        Ok((reason, action)) => {
            reasons::count(reason);
            action
        }
        Err(reason) => {
            reasons::count(reason);
            if matches!(reason, Reason::Internal) {
                error!(ctx, "a map holds what it never should; please report this with `bpftool map dump`");
            }
            match reason.verdict() {
                Verdict::Drop => xdp_action::XDP_DROP,
                Verdict::Answer => xdp_action::XDP_TX,
                Verdict::Pass | Verdict::Forward => xdp_action::XDP_PASS,
            }
        }
    }
}

/// `Ok` for a packet this program sends on, with the action that sends it.
#[inline(always)]
fn balance(ctx: &XdpContext) -> Result<(Reason, u32), Reason> {
    let mut why = Reason::Malformed;
    let Some(packet) = parse(ctx, &mut why) else {
        return Err(why);
    };
    let Some(flow) = flows::get(&packet.key) else {
        return miss::handle(ctx, &packet);
    };
    // SAFETY: an element stays readable until this program ends. Should user space remove it meanwhile, it may come to hold
    // another flow: then one packet goes where that flow goes, where it is not expected.
    let value = unsafe { &mut *flow };
    if value.is_forward() { forward_half(ctx, &packet, value) } else { reply_half(ctx, &packet, value) }
}

#[inline(always)]
fn forward_half(ctx: &XdpContext, packet: &Packet, value: &mut FlowValue) -> Result<(Reason, u32), Reason> {
    let nat = value.method == Method::Nat as u8;
    // A client may use the port of a connection that is over again (RFC 9293 section 3.6.1). Anybody can forge a SYN, so
    // it takes nothing away from a flow whose backend has not ended it too.
    let reopened = packet.is_bare_syn() && nat && is_over(packet, value);
    let Some(backend) = serving(value).filter(|_| !reopened) else {
        if nat {
            flows::remove(&packet.key.other_half(value));
        }
        flows::remove(&packet.key);
        return miss::handle(ctx, packet);
    };
    follow_return_hop(ctx, packet, value)?;
    touch(packet, value);
    let action = forward::to_backend(ctx, packet, value.method, backend)?;
    counters::packet(value.backend, packet.frame_length());
    Ok((Reason::Flow, action))
}

#[inline(always)]
fn is_over(packet: &Packet, value: &FlowValue) -> bool {
    match flows::get(&packet.key.other_half(value)) {
        // SAFETY: as in `balance`.
        Some(reply) => over(value.phase, unsafe { (*reply).phase }),
        None => true,
    }
}

/// Whether a `nat` flow is over, by what its halves have shown. What the client's side shows may be forged; the backend
/// believes no packet whose sequence number does not fit (RFC 9293 section 3.10.7.4).
#[inline(always)]
pub(crate) const fn over(forward: u8, reply: u8) -> bool {
    reply & SEEN_RST != 0 || forward & reply & SEEN_FIN != 0
}

#[inline(always)]
fn reply_half(ctx: &XdpContext, packet: &Packet, value: &mut FlowValue) -> Result<(Reason, u32), Reason> {
    touch(packet, value);
    let action = forward::to_client(ctx, packet, value)?;
    counters::packet(value.backend, packet.frame_length());
    Ok((Reason::Reply, action))
}

/// The backend of a flow, if it still is that backend and its flows may go on.
#[inline(always)]
pub(crate) fn serving(value: &FlowValue) -> Option<&'static Backend> {
    backends::get(value.backend).filter(|backend| {
        backend.flags & SERVING != 0 && backend.address.v4() == value.address && backend.port == value.port
    })
}

/// Jiffies between two writes of `last_seen`: a flow's cache line stays clean in between.
const TOUCH_INTERVAL: u32 = 64;

#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_jiffies64() as u32 }
}

#[inline(always)]
fn touch(packet: &Packet, value: &mut FlowValue) {
    let now = now();
    if now.wrapping_sub(value.last_seen) > TOUCH_INTERVAL {
        value.last_seen = now;
    }
    let flags = packet.tcp_flags;
    if flags & (Tcp::FIN | Tcp::RST) != 0 {
        value.phase |= ending(flags);
    } else if value.phase != 0 {
        // Who goes on after a RST did not send it; a SYN begins anew.
        value.phase &= if packet.is_bare_syn() { 0 } else { !SEEN_RST };
    }
}

/// Phase bits for the flags of a packet that ends a connection.
#[inline(always)]
pub(crate) const fn ending(flags: u8) -> u8 {
    let mut phase = 0;
    if flags & Tcp::FIN != 0 {
        phase |= SEEN_FIN;
    }
    if flags & Tcp::RST != 0 {
        phase |= SEEN_RST;
    }
    phase
}

/// Where replies to the sender of this packet go: back the way it came.
#[inline(always)]
pub(crate) fn return_hop(ctx: &XdpContext, packet: &Packet) -> NextHop {
    // SAFETY: `parse` compared the header with the end of the packet.
    let ethernet = unsafe { &*packet.ethernet };
    NextHop {
        destination: ethernet.source,
        source: ethernet.destination,
        ifindex: ctx.ingress_ifindex() as u32,
    }
}

/// Follows a client whose router changed: replies go where its packets come from now. `Err` for a frame that was sent to
/// another host and that this one sees because a switch floods it: the other node of the pair, which held the address
/// before, still has the flow.
#[inline(always)]
fn follow_return_hop(ctx: &XdpContext, packet: &Packet, value: &mut FlowValue) -> Result<(), Reason> {
    let hop = return_hop(ctx, packet);
    if hop == value.return_hop {
        return Ok(());
    }
    if !miss::for_this_host(ctx, packet) {
        return Err(Reason::OtherHost);
    }
    value.return_hop = hop;
    if value.method == Method::Nat as u8
        && let Some(reply) = flows::get(&packet.key.other_half(value))
    {
        // SAFETY: as in `balance`.
        unsafe { (*reply).return_hop = hop };
    }
    Ok(())
}

/// Writes jiffies and the monotonic clock in nanoseconds over the first 16 bytes of the packet, for user space to learn
/// how long a jiffy is.
#[inline(always)]
pub fn write_jiffies(ctx: &XdpContext) -> Option<()> {
    let out: *mut [u64; 2] = at(ctx, 0)?;
    // SAFETY: `at` compared both words with the end of the packet; the helpers only read clocks.
    unsafe { *out = [bpf_jiffies64(), bpf_ktime_get_ns()] };
    Some(())
}
