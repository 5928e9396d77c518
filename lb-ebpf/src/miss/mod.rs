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

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::backend::{Backend, SERVING};
use lb_common::flow::{self, FlowKey, HalfOpen, Ports, REPLY, SEEN_FIN, SEEN_RST, Slot};
use lb_common::hash::flow_hash;
use lb_common::reason::Reason;
use lb_common::service::{MOVED, Method, NO_TABLE, PER_PACKET, RESET, Scheduler, Service};

pub(crate) use choose::{NO_BACKEND, is_told, told};

use crate::balance::{now, over, reply_key, return_hop, touch};
use crate::forward::full_nat::forward_half as full_nat_half;
use crate::maps::scratch::{self, Decision, Request};
use crate::maps::{backends, flows, half_open, hops, listeners, load, seen, services, stations};
use crate::packet::{Control, Family, PROTOCOL_TCP, Packet, Tcp, Udp, again};

/// What is to be done with a packet, in one word: functions that are verified on their own hand back a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer(u32);

impl Answer {
    const REASON: u32 = 0xff;
    const FORWARD: u32 = 1 << 8;
    const REPLY: u32 = 1 << 9;
    const RESET: u32 = 1 << 10;
    /// Go on: the scheduler chooses.
    const CHOOSE: u32 = 1 << 11;
    /// Go on: it is chosen.
    const STORE: u32 = Self::CHOOSE | 1;
    /// Nothing yet: the flow is not known, or its backend serves no more.
    pub(crate) const UNKNOWN: Self = Self(0);
    pub(crate) const LOST: Self = Self(1);
    const METHOD_SHIFT: u32 = 12;
    const BACKEND_SHIFT: u32 = 16;

    /// The reason says it.
    #[inline(always)]
    pub(crate) const fn because(reason: Reason) -> Self {
        Self(reason as u32)
    }

    /// On to a backend.
    pub(crate) const fn forward(reason: Reason, method: u32, backend: u32) -> Self {
        let method = (method & 7) << Self::METHOD_SHIFT;
        Self(reason as u32 | Self::FORWARD | method | backend << Self::BACKEND_SHIFT)
    }

    /// Back to the client that the half-open flow in the scratch record names.
    pub(crate) const fn reply(reason: Reason) -> Self {
        Self(reason as u32 | Self::REPLY)
    }

    #[inline(always)]
    pub(crate) const fn word(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn from_word(word: u32) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub(crate) const fn is_forward(self) -> bool {
        self.0 & Self::FORWARD != 0
    }

    /// Back to the client that the half-open flow in the scratch record names.
    #[inline(always)]
    pub(crate) const fn is_reply(self) -> bool {
        self.0 & Self::REPLY != 0
    }

    /// The client is to be sent a RST.
    #[inline(always)]
    pub(crate) const fn is_reset(self) -> bool {
        self.0 & Self::RESET != 0
    }

    #[inline(always)]
    pub(crate) const fn reason(self) -> u32 {
        self.0 & Self::REASON
    }

    #[inline(always)]
    pub(crate) const fn method(self) -> u32 {
        self.0 >> Self::METHOD_SHIFT & 7
    }

    #[inline(always)]
    pub(crate) const fn backend(self) -> u32 {
        self.0 >> Self::BACKEND_SHIFT
    }
}

/// The steps of a decision by family, one after another: what is known, the scheduler's choice, what is remembered. They take
/// the packet in the scratch record and leave there what they decide. They are visible outside of the object, so that the
/// verifier looks at each by itself ("Function by function verification" in Documentation/bpf/bpf_design_QA.rst).
pub(crate) trait Called: Control {
    fn begin(lost: u32) -> u32;
    fn choose() -> u32;
    fn store() -> u32;
}

macro_rules! called {
    ($address:ty, $begin:ident, $choose:ident, $store:ident) => {
        impl Called for $address {
            #[inline(always)]
            fn begin(lost: u32) -> u32 {
                $begin(lost)
            }

            #[inline(always)]
            fn choose() -> u32 {
                $choose()
            }

            #[inline(always)]
            fn store() -> u32 {
                $store()
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $begin(lost: u32) -> u32 {
            begin::<$address>(lost != 0).0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $choose() -> u32 {
            choose::<$address>().0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $store() -> u32 {
            store::<$address>().0
        }
    };
}

called!(V4, ek_begin4, ek_choose4, ek_store_flow4);
called!(Addr, ek_begin6, ek_choose6, ek_store_flow6);

/// What to do with a packet whose flow is not known, or whose flow's backend serves no more (`lost`).
#[inline(always)]
pub(crate) fn ask<A: Called>(ctx: &XdpContext, packet: &Packet<A>, tags: u32, lost: bool) -> Answer {
    let Some(scratch) = scratch::get() else {
        return Answer::because(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own; a key of either family has room in it.
    unsafe {
        let request = &mut (*scratch).request;
        (&raw mut request.key).cast::<FlowKey<A>>().write(packet.key);
        request.back = hops::words(&return_hop(ctx, packet.ethernet, tags));
        request.tcp_flags = u32::from(packet.tcp_flags);
        request.head = [0; 2];
        if !packet.is_tcp() {
            let payload = (packet.transport as usize + size_of::<Udp>()) as *mut [u64; 2];
            if let Some(head) = again(ctx, payload) {
                request.head = *head;
            }
        }
    }
    decide::<A>(lost)
}

/// What to do with the packet in the scratch record.
#[inline(always)]
pub(crate) fn decide<A: Called>(lost: bool) -> Answer {
    let mut answer = A::begin(u32::from(lost));
    if answer == Answer::CHOOSE {
        answer = A::choose();
    }
    if answer == Answer::STORE {
        answer = A::store();
    }
    Answer(answer)
}

/// The packet that a request is about.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a, A> {
    pub(crate) key: &'a FlowKey<A>,
    pub(crate) request: &'a Request,
}

impl<A> Asked<'_, A> {
    #[inline(always)]
    const fn is_tcp(&self) -> bool {
        self.key.protocol == PROTOCOL_TCP as u32
    }

    /// A SYN without ACK: somebody opens a connection, or pretends to.
    #[inline(always)]
    const fn is_bare_syn(&self) -> bool {
        self.request.tcp_flags & (Tcp::SYN | Tcp::ACK) as u32 == Tcp::SYN as u32
    }

    #[inline(always)]
    pub(crate) const fn is_syn(&self) -> bool {
        self.request.tcp_flags & Tcp::SYN as u32 != 0
    }

    #[inline(always)]
    pub(crate) const fn tcp_flags(&self) -> u8 {
        self.request.tcp_flags as u8
    }
}

/// The service that listens on an address and port.
#[inline(always)]
pub(crate) fn listener<A: Family>(address: A, port: u16, protocol: u8) -> u32 {
    // Under port 0 are ranges and no service, and a range that is none would hold it.
    if port == 0 {
        return listeners::NONE;
    }
    let exact = A::listener(address, port, protocol);
    if exact != listeners::NONE {
        return exact;
    }
    let ranged = A::listener(address, 0, protocol);
    if ranged == listeners::NONE { listeners::NONE } else { listeners::in_ranges(ranged, port) }
}

/// The packet in the scratch record, and what is decided about it so far.
#[inline(always)]
pub(crate) fn asked<A: Family>() -> Option<(Asked<'static, A>, &'static mut Decision)> {
    let scratch = scratch::get()?;
    // SAFETY: the record is this CPU's own; it holds a key of this family.
    unsafe {
        let request = &(*scratch).request;
        let key = &*(&raw const request.key).cast::<FlowKey<A>>();
        Some((Asked { key, request }, &mut (*scratch).decision))
    }
}

#[inline(always)]
fn begin<A: Family>(lost: bool) -> Answer {
    let Some((packet, decision)) = asked::<A>() else {
        return Answer::because(Reason::Internal);
    };
    let key = packet.key;
    let number = listener(key.destination, key.ports.destination, key.protocol as u8);
    let Some(service) = services::get(number) else {
        return if lost { Answer::because(Reason::NoBackend) } else { half_open_reply(&packet) };
    };
    if !for_this_host(packet.request) {
        return Answer::because(Reason::OtherHost);
    }
    if lost {
        // A fingerprint says that the client began anew, by a SYN that did not ask for the flow.
        let anew = packet.is_bare_syn() || seen::contains(flow_hash(packet.key));
        if service.flags & RESET != 0 && packet.is_tcp() && !anew {
            mark_reset(&packet);
            return Answer(Reason::Reset as u32 | Answer::RESET);
        }
        forget(&packet);
    }
    if let Err(reason) = admit::listed(&packet, number, service) {
        return Answer::because(reason);
    }
    *decision = Decision {
        hash: flow_hash(key),
        service: number,
        backend: NO_BACKEND,
        entry: 0,
        source: 0,
        source_port: 0,
        zero: 0,
        known: false,
        known_flow: false,
        remember: false,
        by_id: false,
    };
    if service.flags & PER_PACKET == 0 && !is_stateless(&packet, service) {
        recall(&packet, service, decision);
    }
    Answer(if decision.backend == NO_BACKEND { Answer::CHOOSE } else { Answer::STORE })
}

#[inline(always)]
fn choose<A: Family>() -> Answer {
    let Some((packet, decision)) = asked::<A>() else {
        return Answer::because(Reason::Internal);
    };
    let number = decision.service;
    let Some(service) = services::get(number) else {
        return Answer::because(Reason::Internal);
    };
    if (packet.is_bare_syn() || !seen::contains(decision.hash))
        && let Err(reason) = admit::limited(&packet, number, service)
    {
        return Answer::because(reason);
    }
    if service.quic_length != 0 && !packet.is_tcp() {
        let backend = quic::named(packet.request, number, service);
        if backend != NO_BACKEND {
            (decision.backend, decision.by_id, decision.remember) = (backend, true, true);
            return Answer(Answer::STORE);
        }
    }
    match choose::choose(&packet, number, service, decision) {
        Ok(()) => Answer(Answer::STORE),
        Err(reason) => Answer::because(reason),
    }
}

#[inline(always)]
fn store<A: Family>() -> Answer {
    let Some((packet, decision)) = asked::<A>() else {
        return Answer::because(Reason::Internal);
    };
    let number = decision.service;
    let (Some(service), Some(backend)) = (services::get(number), backends::get(decision.backend)) else {
        return Answer::because(Reason::Internal);
    };
    let reason = if decision.known_flow {
        Ok(Reason::Flow)
    } else if service.flags & PER_PACKET != 0 {
        store::per_packet(&packet, number, service, backend, decision)
    } else {
        store::store(&packet, number, service, backend, decision)
    };
    match reason {
        Ok(reason) => Answer::forward(reason, u32::from(service.method), decision.backend),
        Err(reason) => Answer::because(reason),
    }
}

/// As [`crate::balance::for_this_host`].
#[inline(always)]
pub(crate) fn for_this_host(request: &Request) -> bool {
    let [_, second, third, ifindex, _] = request.back;
    let ([.., a, b], [c, d, e, f]) = (second.to_ne_bytes(), third.to_ne_bytes());
    stations::contains(ifindex, [a, b, c, d, e, f])
}

/// Whether the packet is a SYN that the service's table alone decides.
#[inline(always)]
fn is_stateless<A: Family>(packet: &Asked<'_, A>, service: &Service) -> bool {
    packet.is_bare_syn()
        && service.flags & MOVED == 0
        && Scheduler::is_hash(service.scheduler)
        && (service.method == Method::Tunnel as u8 || service.method == Method::Direct as u8)
}

/// What is known of the packet's flow: of a SYN, the flow itself, for only other packets were looked for so far; and the
/// half-open flow.
#[inline(always)]
fn recall<A: Family>(packet: &Asked<'_, A>, service: &Service, decision: &mut Decision) {
    if packet.is_syn() && recall_flow(packet, decision) {
        return;
    }
    if service.flags & MOVED == 0
        && !is_turning(service)
        && Scheduler::is_hash(service.scheduler)
        && service.method != Method::FullNat as u8
    {
        return;
    }
    let Some(known) = half_open::get(packet.key) else {
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
fn recall_flow<A: Family>(packet: &Asked<'_, A>, decision: &mut Decision) -> bool {
    let Some(slot) = flows::look_up(packet.key) else {
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
        let reply_key = reply_key(packet.key, slot, backend);
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
    if state & SEEN_FIN != 0 {
        load::add(number, 1);
    }
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

/// A flow whose client is sent a RST stays in the table: a RST that meets bytes of the backend on their way is older than
/// what the client expects next, and is not believed (RFC 5961 section 3.2). The client has to get what the backend still
/// sends, and to acknowledge it, for a RST that it believes.
#[inline(always)]
fn mark_reset<A: Family>(packet: &Asked<'_, A>) {
    let Some(slot) = flows::look_up(packet.key) else {
        return;
    };
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, identity) = unsafe { ((*slot).state, (*slot).place, (*slot).other.as_ref()[0]) };
    if state & (SEEN_FIN | SEEN_RST) == 0
        && let Some(backend) = backends::get(flow::backend(place))
        && backend.identity == identity
    {
        load::add(flow::backend(place), -1);
    }
    flows::set(slot, SEEN_RST);
}

/// Takes a flow whose backend serves no more out of the table, with its reply half where that can still be told.
#[inline(always)]
fn forget<A: Family>(packet: &Asked<'_, A>) {
    let Some(slot) = flows::look_up(packet.key) else {
        return;
    };
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, identity) = unsafe { ((*slot).state, (*slot).place, (*slot).other.as_ref()[0]) };
    let method = flow::method(state);
    if (method == Method::NAT || method == Method::FULL_NAT)
        && let Some(backend) = backends::get(flow::backend(place))
        && backend.identity == identity
    {
        flows::remove(&reply_key(packet.key, slot, backend));
    }
    flows::kill(slot);
}

/// The reply to a packet that opened a `nat` or `fullnat` flow: a SYN-ACK, a RST, the answer to one UDP packet.
#[inline(always)]
fn half_open_reply<A: Family>(packet: &Asked<'_, A>) -> Answer {
    if packet.is_syn()
        && let Some(slot) = flows::look_up(packet.key)
        // SAFETY: a slot stays readable until this program ends.
        && unsafe { (*slot).state } & REPLY != 0
    {
        return if for_this_host(packet.request) {
            reply(packet, slot)
        } else {
            Answer::because(Reason::OtherHost)
        };
    }
    let Some(known) = half_open::get(packet.key) else {
        return Answer::because(Reason::NoService);
    };
    if known.state & REPLY == 0 || is_old(known) {
        return Answer::because(Reason::NoService);
    }
    if !for_this_host(packet.request) {
        return Answer::because(Reason::OtherHost);
    }
    if let Some(scratch) = scratch::get() {
        // SAFETY: the record is this CPU's own.
        unsafe { (*scratch).half = *known };
    }
    Answer::reply(Reason::Reply)
}

/// A reply of a flow that is in the table, told as that of a half-open one: for packets that are rare.
#[inline(always)]
pub(crate) fn reply<A: Family>(packet: &Asked<'_, A>, slot: *mut Slot<A>) -> Answer {
    let key = packet.key;
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, other) = unsafe { ((*slot).state, (*slot).place, (*slot).other) };
    touch(key, packet.tcp_flags(), slot, state, flow::backend(place));
    let Some(scratch) = scratch::get() else {
        return Answer::because(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own.
    let half = unsafe { &mut (*scratch).half };
    (half.state, half.place) = (state, place);
    (half.address, half.port) = (A::from_other(&other).mapped(), flow::port(state));
    (half.client, half.client_port) = (key.destination.mapped(), key.ports.destination);
    if flow::method(state) == Method::FULL_NAT {
        let Some(forward) = full_nat_half(key, other.as_ref()[0]) else {
            return Answer::because(Reason::NoWayBack);
        };
        // SAFETY: as above.
        let (service, client, ports) =
            unsafe { ((*forward).destination, (*forward).source, Ports::from_word((*forward).ports)) };
        (half.address, half.port) = (service.mapped(), ports.destination);
        (half.client, half.client_port) = (client.mapped(), ports.source);
    }
    half.service = if packet.is_syn() {
        listener(A::from_mapped(half.address), half.port, key.protocol as u8)
    } else {
        listeners::NONE
    };
    Answer::reply(Reason::Reply)
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
