//! Room for keys and values that are too large for the stack, which has 512 bytes for all functions on the way; for what
//! functions that are verified on their own take and give, which may be numbers only; and for what a program leaves to the one
//! that goes on.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;
use lb_common::backend::NextHop;
use lb_common::flow::{FlowKey, HalfOpen, MappedKey};

use super::fragments::{First, FragmentKey};
use crate::outcome::Outcome;

#[repr(C, align(8))]
pub(crate) struct Scratch {
    pub(crate) request: Request,
    pub(crate) about: About,
    pub(crate) decision: Decision,
    /// A half-open flow, to be stored or as it was found, and its key.
    pub(crate) half_key: MappedKey,
    pub(crate) half: HalfOpen,
    /// The key of a reply half, and of the flow that it belongs to.
    pub(crate) reply_key: MappedKey,
    pub(crate) other_key: MappedKey,
    /// A key of the flow table for IPv6.
    pub(crate) key: MappedKey,
    /// What is stored under a key of the flow table: see [`lb_common::flow::Slot`].
    pub(crate) state: u32,
    pub(crate) last_seen: u32,
    pub(crate) place: u32,
    pub(crate) zero: u32,
    pub(crate) other: Addr,
    pub(crate) piece: Piece,
    /// See [`forgotten`].
    pub(crate) number: u64,
    /// For the program that the packet goes on in: the tags that came off, and an [`Outcome`].
    tags: u64,
    outcome: u32,
    none: u32,
}

/// A fragment, or a packet with extension headers: see [`crate::fragment`].
#[repr(C, align(8))]
pub(crate) struct Piece {
    /// What it has in common with the other fragments of its packet.
    pub(crate) key: FragmentKey,
    /// What the first one says; of a later one, what the first one said.
    pub(crate) first: First,
    /// A [`crate::fragment::Kind`].
    pub(crate) kind: u32,
    /// Where in the packet it belongs, bytes.
    pub(crate) offset: u32,
    /// Where in the frame the transport header is, bytes; 0 for a later fragment, which has none.
    pub(crate) transport: u32,
    /// Bytes of the IP packet, by its header.
    pub(crate) ip_length: u32,
}

/// A packet whose flow is not known: see [`crate::miss`].
#[repr(C, align(8))]
pub(crate) struct Request {
    /// A [`lb_common::flow::FlowKey`] of the packet's family.
    pub(crate) key: MappedKey,
    /// The next hop back to the sender, in words of a [`lb_common::backend::NextHop`].
    pub(crate) back: [u32; 5],
    pub(crate) tcp_flags: u32,
    /// Of a UDP packet with at least as many, the first bytes it carries; else zeros.
    pub(crate) head: [u64; 2],
}

/// How an error about a flow's packets gets to the end it is meant for: see [`crate::icmp_error`].
#[repr(C, align(8))]
pub(crate) struct About {
    /// Addresses and ports that a packet has which goes the same way, once it is rewritten.
    pub(crate) source: Addr,
    pub(crate) destination: Addr,
    pub(crate) ports: u32,
    /// To a client.
    pub(crate) hop: u32,
    /// To a backend: what the flow says of it, and what `fullnat` gave the flow as in a [`Decision`].
    pub(crate) method: u32,
    pub(crate) backend: u32,
    pub(crate) identity: u32,
    pub(crate) given: u32,
    pub(crate) given_port: u32,
}

/// What is known and decided about the packet's flow.
#[repr(C, align(8))]
pub(crate) struct Decision {
    /// [`lb_common::hash::flow_hash`].
    pub(crate) hash: u64,
    /// Number of the service.
    pub(crate) service: u32,
    /// Number of the backend, or [`crate::miss::NO_BACKEND`].
    pub(crate) backend: u32,
    /// The table entry it came from.
    pub(crate) entry: u32,
    /// What `fullnat` gave the flow: [`crate::forward::full_nat::source_number`], and a port in network order.
    pub(crate) source: u32,
    pub(crate) source_port: u16,
    pub(crate) zero: u16,
    /// It is among the half-open flows.
    pub(crate) known: bool,
    /// It is in the flow table.
    pub(crate) known_flow: bool,
    /// No table tells the backend again.
    pub(crate) remember: bool,
    /// A QUIC connection id named the backend.
    pub(crate) by_id: bool,
}

#[btf_map(name = "ek_scratch")]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

impl Request {
    #[inline(always)]
    pub(crate) const fn way_back(&self) -> &NextHop {
        // SAFETY: 20 bytes of plain integers, aligned to four.
        unsafe { &*(&raw const self.back).cast::<NextHop>() }
    }
}

impl Scratch {
    /// A key of either family in the room of one.
    #[inline(always)]
    pub(crate) const fn key_of<A>(key: *mut MappedKey) -> *mut FlowKey<A> {
        key.cast()
    }
}

/// A record of this CPU's own; XDP does not interrupt itself on one CPU.
#[inline(always)]
pub(crate) fn get() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

#[inline(always)]
pub(crate) fn keep_tags(tags: u64) {
    if let Some(scratch) = get() {
        // SAFETY: the record is this CPU's own.
        unsafe { (*scratch).tags = tags };
    }
}

/// What [`keep_tags`] kept.
#[inline(always)]
pub(crate) fn tags() -> u64 {
    // SAFETY: the record is this CPU's own.
    get().map_or(0, |scratch| unsafe { (*scratch).tags })
}

#[inline(always)]
pub(crate) fn keep_outcome(outcome: Outcome) {
    if let Some(scratch) = get() {
        // SAFETY: the record is this CPU's own.
        unsafe { (*scratch).outcome = outcome.word() };
    }
}

/// What [`keep_outcome`] kept.
#[inline(always)]
pub(crate) fn outcome() -> Outcome {
    // SAFETY: the record is this CPU's own.
    get().map_or(Outcome::UNKNOWN, |scratch| Outcome::from_word(unsafe { (*scratch).outcome }))
}

/// The same number, of which the verifier no longer knows anything: in a loop, it looks at each round once and not at each way that led
/// to it.
#[inline(always)]
pub(crate) fn forgotten(number: u32) -> Option<u32> {
    let scratch = get()?;
    // SAFETY: the record is this CPU's own.
    unsafe {
        let room = &raw mut (*scratch).number;
        room.write_volatile(u64::from(number));
        Some(room.read_volatile() as u32)
    }
}
