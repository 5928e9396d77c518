//! The balancer: which packet is whose, and the path of a packet whose flow is known.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::error;
use lb_common::addr::{Addr, V4};
use lb_common::backend::{Backend, NextHop, SERVING};
use lb_common::flow::{self, FlowKey, Ports, REPLY, SEEN_FIN, SEEN_RST, Slot};
use lb_common::hash::{flow_hash, source_hash, table_entry};
use lb_common::reason::Reason;
use lb_common::service::{Method, STATELESS, Scheduler};

use crate::icmp_error::{self, Whose};
use crate::maps::{
    backends, counters, flows, hops, load, reasons, scratch, seen, services, stations, tables,
};
use crate::miss::{self, Answer};
use crate::outcome::Outcome;
use crate::packet::{
    Control, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, Ethernet, Family,
    Packet, Tcp, at,
};
use crate::{echo, forward, fragment, mss, reset, vlan};

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

#[inline(always)]
fn known<A: miss::Called>(ctx: &XdpContext, tags: u32) -> Outcome {
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
        return Outcome::because(Reason::OtherHost);
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
    let number = A::listener(key.destination, key.ports.destination, key.protocol as u8);
    let Some(service) = services::get(number) else {
        return Outcome::UNKNOWN;
    };
    if service.flags & STATELESS == 0 || !for_this_host(ctx, packet.ethernet) {
        return Outcome::UNKNOWN;
    }
    let hash = flow_hash(key);
    let entry = if service.scheduler == Scheduler::Flow as u8 {
        (hash >> 32) as u32
    } else {
        source_hash(key.source)
    };
    let Some(number) = tables::get(service.table, table_entry(entry)) else {
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
        return if answer.is_reset() {
            Outcome::because(if reset::answer::<A>(ctx.ctx) { Reason::Reset } else { Reason::NoBackend })
        } else {
            Outcome::by_reason(answer.reason())
        };
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

/// How a packet gets to a backend. Numbers and no pointers: what the compiler merges from several branches, the verifier must
/// still know.
pub(crate) struct Way {
    pub(crate) method: u32,
    /// What `fullnat` gave the flow.
    pub(crate) source: u32,
    pub(crate) source_port: u16,
}

impl Way {
    #[inline(always)]
    pub(crate) fn by(answer: Answer) -> Self {
        let (source, source_port) = match scratch::get() {
            // SAFETY: the record is this CPU's own.
            Some(scratch) => unsafe { ((*scratch).decision.source, (*scratch).decision.source_port) },
            None => (0, 0),
        };
        Self { method: answer.method(), source, source_port }
    }
}

#[inline(always)]
fn forward_half<A: Control>(ctx: &XdpContext, packet: &Packet<A>, slot: *mut Slot<A>, tags: u32) -> Outcome {
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, other) = unsafe { ((*slot).state, (*slot).place, (*slot).other) };
    let number = flow::backend(place);
    let Some(backend) = backends::get(number) else {
        return Outcome::because(Reason::Internal);
    };
    // A number that was given to another backend is not this flow's.
    if backend.flags & SERVING == 0 || backend.identity != other.as_ref()[0] {
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

/// To the client that the half-open flow in the scratch record names.
#[inline(always)]
fn half_open_reply<A: Family>(ctx: &XdpContext, packet: &Packet<A>) -> Outcome {
    let Some(scratch) = scratch::get() else {
        return Outcome::because(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own.
    let known = unsafe { &(*scratch).half };
    let backend = flow::backend(known.place);
    let full = flow::method(known.state) == Method::FULL_NAT;
    let action = forward::to_client(
        ctx,
        packet,
        A::from_mapped(known.address),
        if full { A::from_mapped(known.client) } else { packet.key.destination },
        Ports {
            source: known.port,
            destination: if full { known.client_port } else { packet.key.ports.destination },
        },
        flow::hop(known.place),
    );
    if action.is_ok() {
        counters::reply(backend, packet.frame_length());
    }
    Outcome::of(Reason::Reply, action)
}

#[inline(always)]
fn reply_half<A: Family>(ctx: &XdpContext, packet: &Packet<A>, slot: *mut Slot<A>) -> Outcome {
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, other) = unsafe { ((*slot).state, (*slot).place, (*slot).other) };
    touch(&packet.key, packet.tcp_flags, slot, state, flow::backend(place));
    let mut address = A::from_other(&other);
    let mut client = packet.key.destination;
    let mut ports = Ports { source: flow::port(state), destination: packet.key.ports.destination };
    if flow::method(state) == Method::FULL_NAT {
        let Some(forward) = forward::full_nat::forward_half(&packet.key, other.as_ref()[0]) else {
            return Outcome::because(Reason::NoWayBack);
        };
        // SAFETY: as above.
        (address, client, ports) = unsafe {
            ((*forward).destination, (*forward).source, Ports::from_word((*forward).ports).turned())
        };
    }
    let action = forward::to_client(ctx, packet, address, client, ports, flow::hop(place));
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

/// Jiffies between two writes of `last_seen`: a flow's cache line stays clean in between.
const TOUCH_INTERVAL: u32 = 64;

#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_jiffies64() as u32 }
}

#[inline(always)]
pub(crate) fn touch<A: Family>(
    key: &FlowKey<A>,
    tcp_flags: u8,
    slot: *mut Slot<A>,
    state: u32,
    backend: u32,
) {
    let now = now();
    // SAFETY: a slot stays writable until this program ends.
    unsafe {
        if now.wrapping_sub((*slot).last_seen) > TOUCH_INTERVAL {
            (*slot).last_seen = now;
        }
    }
    let ending = tcp_flags & (Tcp::FIN | Tcp::RST);
    if ending != 0 {
        // A RST may be forged, and taken back by the next packet.
        if ending & Tcp::FIN != 0 && state & (SEEN_FIN | REPLY) == 0 {
            load::add(backend, -1);
        }
        flows::set(slot, self::ending(tcp_flags));
    } else if state & (SEEN_FIN | SEEN_RST) != 0 {
        // Who goes on after a RST did not send it, and who goes on after a SYN that did not ask for the flow began anew.
        let anew = state & (SEEN_FIN | REPLY) == SEEN_FIN && seen::contains(flow_hash(key));
        if anew {
            load::add(backend, 1);
        }
        flows::clear(slot, if anew { SEEN_FIN | SEEN_RST } else { SEEN_RST });
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
pub(crate) fn follow_return_hop<A: Family>(
    key: &FlowKey<A>,
    slot: *mut Slot<A>,
    backend: &Backend,
    hop: &NextHop,
) {
    // SAFETY: a slot stays readable until this program ends.
    let place = unsafe { (*slot).place };
    if hops::get(flow::hop(place)).is_some_and(|known| known == hop) {
        return;
    }
    let place = flow::place(flow::backend(place), hops::number(hops::words(hop), now()));
    // SAFETY: as above.
    unsafe { (*slot).place = place };
    if let Some(reply) = flows::look_up(&reply_key(key, slot, backend)) {
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
