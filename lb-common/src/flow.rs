//! Flows: one 5-tuple and what was decided for it.
//!
//! The flow table is an array of sets of sixteen [`Slot`]s, one table for each family, mapped into user space. A flow is
//! in one of two sets, found by its hash (see [`crate::extent`]); `nat` and `fullnat` flows have a slot for each direction,
//! a half. A slot says everything about its half without the other one, so it can be copied to another node; where a half
//! needs the other one, the key of that follows from what it says.
//!
//! # Who writes what
//!
//! A slot is free when its `state` is 0. Whoever wants it changes that from 0 to [`CLAIMED`] by one compare-and-swap,
//! fills it, and then writes its `state` with [`LIVE`] in it by one exchange: nobody reads a slot that is not live, and no
//! two write one. A slot that is live goes out of use by the clearing of [`LIVE`]. It is made free by user space only, and
//! only after every program that might still read it has ended: so a slot never turns into that of another flow
//! while it is being read.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Addr, Address};
use crate::pod::pod;

/// The 5-tuple of a packet as it arrives, in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey<A> {
    pub source: A,
    pub destination: A,
    pub ports: Ports,
    /// IP protocol number.
    pub protocol: u32,
}

/// Source and destination port as they begin a TCP or UDP header.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C, align(4))]
pub struct Ports {
    pub source: u16,
    pub destination: u16,
}

pod!(Ports = 4 bytes);

impl Ports {
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        let ([a, b], [c, d]) = (self.source.to_ne_bytes(), self.destination.to_ne_bytes());
        u32::from_ne_bytes([a, b, c, d])
    }

    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        let [a, b, c, d] = word.to_ne_bytes();
        Self { source: u16::from_ne_bytes([a, b]), destination: u16::from_ne_bytes([c, d]) }
    }

    #[inline(always)]
    #[must_use]
    pub const fn turned(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

/// Slots of a set.
pub const WAYS: u32 = 16;

/// One half of a flow. 32 bytes for IPv4, two of them a cache line; 64 bytes for IPv6.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub struct Slot<A: Address> {
    pub source: A,
    pub destination: A,
    /// [`Ports::word`].
    pub ports: u32,
    /// The bits below, and a port in the upper half: see [`port`].
    pub state: u32,
    /// Low 32 bits of the kernel's jiffies when this half last saw a packet; some jiffies behind.
    pub last_seen: u32,
    /// Number of the backend in the lower half, number of the return hop in the upper one: see [`place`].
    pub place: u32,
    /// Forward half: the backend's identity, and with `fullnat` the number of the source address.
    /// Reply half: with `nat` the service's address; with `fullnat` the number of the forward half's slot.
    pub other: A::Other,
}

const _: () = assert!(size_of::<Slot<crate::addr::V4>>() == 32);
const _: () = assert!(size_of::<Slot<Addr>>() == 64);

/// What the two hashes of a key lead to.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Set<A: Address> {
    pub slots: [Slot<A>; WAYS as usize],
}

/// Somebody fills the slot.
pub const CLAIMED: u32 = 1;
/// The slot is a flow's. Cleared, it waits for user space to free it.
pub const LIVE: u32 = 1 << 1;
/// Backend to client; else client to backend.
pub const REPLY: u32 = 1 << 2;
/// UDP; else TCP.
pub const UDP: u32 = 1 << 3;
/// This half sent a FIN.
pub const SEEN_FIN: u32 = 1 << 4;
/// This half sent a RST.
pub const SEEN_RST: u32 = 1 << 5;
/// A [`crate::service::Method`] in three bits.
pub const METHOD_SHIFT: u32 = 6;
pub const METHOD_MASK: u32 = 7 << METHOD_SHIFT;
/// Layout of the slot, so that a copy from another release is known: [`VERSION`].
pub const VERSION_SHIFT: u32 = 13;
pub const VERSION: u32 = 1;
/// A port in the upper half of `state`. Reply half of `nat`: the service's. Forward half of `fullnat`: the source port
/// that was allocated.
pub const PORT_SHIFT: u32 = 16;

/// `state` of a half that is live.
#[inline(always)]
#[must_use]
pub const fn live(method: u32, bits: u32, port: u16) -> u32 {
    LIVE | (method << METHOD_SHIFT) | bits | (VERSION << VERSION_SHIFT) | ((port as u32) << PORT_SHIFT)
}

#[inline(always)]
#[must_use]
pub const fn method(state: u32) -> u32 {
    (state & METHOD_MASK) >> METHOD_SHIFT
}

/// The port in a state, in network order.
#[inline(always)]
#[must_use]
pub const fn port(state: u32) -> u16 {
    (state >> PORT_SHIFT) as u16
}

#[inline(always)]
#[must_use]
pub const fn place(backend: u32, hop: u32) -> u32 {
    (backend & 0xffff) | (hop << 16)
}

#[inline(always)]
#[must_use]
pub const fn backend(place: u32) -> u32 {
    place & 0xffff
}

#[inline(always)]
#[must_use]
pub const fn hop(place: u32) -> u32 {
    place >> 16
}

/// A flow that has shown one packet only and must be remembered all the same: the reply half of a `nat` or `fullnat` flow,
/// and the forward half where no table tells the backend again. In a table that evicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HalfOpen {
    /// Reply half: the service's address. Forward half of `fullnat`: the source address that was allocated.
    pub address: Addr,
    /// Reply half of `fullnat`: the client's address.
    pub client: Addr,
    /// Port with `address`, network order.
    pub port: u16,
    /// Port with `client`, network order.
    pub client_port: u16,
    /// As in [`Slot`].
    pub state: u32,
    pub place: u32,
    pub identity: u32,
    /// Jiffies when it was stored.
    pub since: u32,
    pub service: u32,
}

/// Key of the table of half-open flows, both families in one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MappedKey {
    pub source: Addr,
    pub destination: Addr,
    pub ports: Ports,
    pub protocol: u32,
}

pod!(HalfOpen = 56 bytes, MappedKey = 40 bytes);

impl<A: Address> FlowKey<A> {
    #[inline(always)]
    #[must_use]
    pub fn mapped(&self) -> MappedKey {
        MappedKey {
            source: self.source.mapped(),
            destination: self.destination.mapped(),
            ports: self.ports,
            protocol: self.protocol,
        }
    }
}

/// The way of a set that a key is looked for first; the next ones are this one with ascending numbers combined by
/// exclusive or, so that the neighbour in the same cache line comes second. By the lowest of the bits that tell the first set.
#[inline(always)]
#[must_use]
pub const fn home(hash: u64) -> u32 {
    (hash >> 32) as u32 & (WAYS - 1)
}

/// Slots of its first set that are in use from which on a new half goes to its second set, if that one is emptier. Most halves
/// are in their first set, so one look finds them; and the first new half that finds no slot comes when 85 of 100 slots
/// are in use.
pub const CROWDED: u32 = 12;

/// Whether a new half goes to its second set, by how many slots of both are in use.
#[inline(always)]
#[must_use]
pub const fn prefers_second(used_of_first: u32, used_of_second: u32) -> bool {
    used_of_first >= CROWDED && used_of_second < used_of_first
}
