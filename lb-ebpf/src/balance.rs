//! The balancer: which packet is whose, and the path of a packet whose flow is known.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::error;
use lb_common::addr::{Addr, Address, V4};
use lb_common::backend::{Backend, NextHop, SERVING};
use lb_common::flow::{self, FlowKey, Ports, REPLY, SEEN_FIN, SEEN_RST, Slot};
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::maps::{backends, counters, flows, hops, load, reasons, stations};
use crate::outcome::Outcome;
use crate::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, Ethernet, Family, Packet, Tcp, at,
};
use crate::{forward, icmp_error, miss, vlan};

/// Runs one packet through; returns the XDP action and counts the reason.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    let Some(ethertype) = ethertype(ctx) else {
        return conclude(ctx, Outcome::because(Reason::Malformed), 0);
    };
    if ethertype == ETHERTYPE_IPV4 {
        return conclude(ctx, Outcome::from_word(ipv4(ctx.ctx, 0)), 0);
    }
    let tagged = ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_SERVICE_VLAN;
    let tags = if tagged { vlan::strip(ctx.ctx) } else { 0 };
    let outcome = match self::ethertype(ctx) {
        Some(ETHERTYPE_IPV4) => ipv4(ctx.ctx, tags as u32),
        Some(ETHERTYPE_IPV6) => ipv6(ctx.ctx, tags as u32),
        _ => Outcome::because(Reason::NotIp).word(),
    };
    conclude(ctx, Outcome::from_word(outcome), tags)
}

#[inline(always)]
fn ethertype(ctx: &XdpContext) -> Option<u16> {
    // SAFETY: `at` compared the header with the end of the packet.
    at::<Ethernet>(ctx, 0).map(|ethernet| unsafe { (*ethernet).ethertype })
}

/// Counts the reason and says the action. What passes goes to the kernel with the tags it came with.
#[inline(always)]
fn conclude(ctx: &XdpContext, outcome: Outcome, tags: u64) -> u32 {
    reasons::count(outcome.reason());
    if outcome.reason() == Reason::Internal as u32 {
        error!(ctx, "a map holds what it never should; please report this with `bpftool map dump`");
    }
    if tags != 0 && outcome.action() == xdp_action::XDP_PASS && !vlan::restore(ctx.ctx, tags) {
        return xdp_action::XDP_DROP;
    }
    outcome.action()
}

/// A function for each family: a call costs a nanosecond, and the two of them would not fit on one stack.
#[inline(never)]
fn ipv4(ctx: *mut xdp_md, tags: u32) -> u32 {
    path::<V4>(&XdpContext::new(ctx), tags).word()
}

#[inline(never)]
fn ipv6(ctx: *mut xdp_md, tags: u32) -> u32 {
    path::<Addr>(&XdpContext::new(ctx), tags).word()
}

#[inline(always)]
fn path<A: miss::Called>(ctx: &XdpContext, tags: u32) -> Outcome {
    let mut why = Reason::Malformed;
    let Some(packet) = A::parse(ctx, &mut why) else {
        return if A::IS_V4 && matches!(why, Reason::OtherProtocol) {
            Outcome::from_word(icmp_error::run(ctx.ctx, tags))
        } else {
            Outcome::because(why)
        };
    };
    // A SYN is decided by its service.
    if packet.is_bare_syn() {
        return A::miss(ctx, &packet, tags);
    }
    let Some(slot) = flows::find(&packet.key) else {
        return A::miss(ctx, &packet, tags);
    };
    if !for_this_host(ctx, packet.ethernet) {
        return Outcome::because(Reason::OtherHost);
    }
    // SAFETY: a slot stays readable until this program ends.
    let (state, place) = unsafe { ((*slot).state, (*slot).place) };
    if state & REPLY != 0 {
        return reply_half(ctx, &packet, slot, state, place);
    }
    let number = flow::backend(place);
    let Some(backend) = serving(slot, number) else {
        return A::lost(ctx, &packet, tags);
    };
    forward_half(ctx, &packet, slot, state, number, backend, tags)
}

#[inline(always)]
fn forward_half<A: miss::Called>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    slot: *mut Slot<A>,
    state: u32,
    number: u32,
    backend: &Backend,
    tags: u32,
) -> Outcome {
    let method = flow::method(state);
    if method == Method::NAT || method == Method::FULL_NAT {
        follow_return_hop(ctx, packet, slot, backend, tags);
    }
    touch(packet, slot, state, number);
    let action = if method == Method::FULL_NAT {
        forward::full_nat::to_backend(ctx, packet, slot, backend)
    } else {
        forward::to_backend(ctx, packet, method, backend)
    };
    if action.is_ok() {
        counters::packet(number, packet.frame_length());
    }
    Outcome::of(Reason::Flow, action)
}

#[inline(always)]
fn reply_half<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    slot: *mut Slot<A>,
    state: u32,
    place: u32,
) -> Outcome {
    touch(packet, slot, state, flow::backend(place));
    let action = if flow::method(state) == Method::FULL_NAT {
        forward::full_nat::to_client(ctx, packet, slot)
    } else {
        // SAFETY: a slot stays readable until this program ends.
        let address = A::from_other(unsafe { &(*slot).other });
        forward::to_client(ctx, packet, address, flow::port(state), flow::hop(place))
    };
    if action.is_ok() {
        counters::reply(flow::backend(place), packet.frame_length());
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

/// The backend of a forward half, if it still is that backend and its flows may go on.
#[inline(always)]
pub(crate) fn serving<A: Address>(slot: *mut Slot<A>, number: u32) -> Option<&'static Backend> {
    let backend = backends::get(number)?;
    // SAFETY: a slot stays readable until this program ends.
    let identity = unsafe { (*slot).other.as_ref()[0] };
    if backend.flags & SERVING == 0 || backend.identity != identity { None } else { Some(backend) }
}

/// Jiffies between two writes of `last_seen`: a flow's cache line stays clean in between.
const TOUCH_INTERVAL: u32 = 64;

#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_jiffies64() as u32 }
}

#[inline(always)]
fn touch<A: Family>(packet: &Packet<A>, slot: *mut Slot<A>, state: u32, backend: u32) {
    let now = now();
    // SAFETY: a slot stays writable until this program ends.
    unsafe {
        if now.wrapping_sub((*slot).last_seen) > TOUCH_INTERVAL {
            (*slot).last_seen = now;
        }
    }
    let ending = packet.tcp_flags & (Tcp::FIN | Tcp::RST);
    if ending != 0 {
        if state & (SEEN_FIN | SEEN_RST) == 0 && state & REPLY == 0 {
            load::add(backend, -1);
        }
        flows::set(slot, self::ending(packet.tcp_flags));
    } else if state & SEEN_RST != 0 {
        // Who goes on after a RST did not send it.
        flows::clear(slot, SEEN_RST);
    }
}

/// State bits for the flags of a packet that ends a connection.
#[inline(always)]
pub(crate) const fn ending(flags: u8) -> u32 {
    let mut bits = 0;
    if flags & Tcp::FIN != 0 {
        bits |= SEEN_FIN;
    }
    if flags & Tcp::RST != 0 {
        bits |= SEEN_RST;
    }
    bits
}

/// Whether a `nat` flow is over, by what its halves have shown. What the client's side shows may be forged; the backend
/// believes no packet whose sequence number does not fit (RFC 9293 section 3.10.7.4).
#[inline(always)]
pub(crate) const fn over(forward: u32, reply: u32) -> bool {
    reply & SEEN_RST != 0 || forward & reply & SEEN_FIN != 0
}

/// Where replies to the sender of this packet go: back the way it came.
#[inline(always)]
pub(crate) fn return_hop(ctx: &XdpContext, ethernet: *mut Ethernet, tags: u32) -> NextHop {
    // SAFETY: parsing compared the header with the end of the packet.
    let ethernet = unsafe { &*ethernet };
    NextHop {
        destination: ethernet.source,
        source: ethernet.destination,
        ifindex: ctx.ingress_ifindex() as u32,
        tags,
    }
}

/// Follows a client whose router changed: replies go where its packets come from now.
#[inline(always)]
fn follow_return_hop<A: miss::Called>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    slot: *mut Slot<A>,
    backend: &Backend,
    tags: u32,
) {
    let hop = return_hop(ctx, packet.ethernet, tags);
    // SAFETY: a slot stays readable until this program ends.
    let place = unsafe { (*slot).place };
    if hops::get(flow::hop(place)).is_some_and(|known| *known == hop) {
        return;
    }
    let place = flow::place(flow::backend(place), hops::number(&hop, now()));
    // SAFETY: as above.
    unsafe { (*slot).place = place };
    if let Some(reply) = flows::look_up(&reply_key(&packet.key, slot, backend)) {
        // SAFETY: as above.
        unsafe { (*reply).place = place };
    }
}

/// The key of a flow's reply half.
#[inline(always)]
pub(crate) fn reply_key<A: Family>(key: &FlowKey<A>, slot: *mut Slot<A>, backend: &Backend) -> FlowKey<A> {
    // SAFETY: a slot stays readable until this program ends.
    let (state, other) = unsafe { ((*slot).state, (*slot).other) };
    let (client, port) = if flow::method(state) == Method::FULL_NAT {
        (forward::full_nat::source(other.as_ref()[1]), flow::port(state))
    } else {
        (key.source, key.ports.source)
    };
    reply_key_to(key, backend, client, port)
}

/// As [`reply_key`], for packets that the backend sends to `address` and `port`.
#[inline(always)]
pub(crate) fn reply_key_to<A: Family>(
    key: &FlowKey<A>,
    backend: &Backend,
    address: A,
    port: u16,
) -> FlowKey<A> {
    FlowKey {
        source: A::from_mapped(backend.address),
        destination: address,
        ports: Ports { source: forward::port(backend, key.ports.destination), destination: port },
        protocol: key.protocol,
    }
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
