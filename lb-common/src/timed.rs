//! What the timed copy of the program carries in the packet it works on, so that timing touches no map; but for the replies of
//! `fullnat`, whose addresses follow from nothing.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where [`Timed`] is in the frame.
pub const OFFSET: usize = 96;
/// Bytes of the headers that every round writes afresh, with some of the payload. Ethernet, IPv4, TCP:
pub const HEADERS4: usize = 56;
/// Ethernet, IPv6, TCP:
pub const HEADERS6: usize = 80;
/// Records in the map of replies of `fullnat`.
pub const REPLIES: u32 = 1 << 20;

/// Parameters and state of a run of many rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timed {
    /// The headers of a round, but for the client's address and port.
    pub headers: [u64; HEADERS6 / 8],
    /// Rounds so far.
    pub round: u64,
    /// The client of a round is number `round * stride & mask`. An odd stride visits every number below a power of two.
    pub stride: u64,
    pub mask: u64,
    /// Last word of the address of client 0, in the machine's byte order. Every address has 16,384 ports.
    pub client: u32,
    /// [`TO_SERVICE`], [`TO_CLIENT`] or [`TO_NODE`].
    pub direction: u32,
    /// Not 0: the packet is IPv6.
    pub ipv6: u32,
    /// Last words of the first backend's and of the first allocated address, in the machine's byte order.
    pub backend: u32,
    pub allocated: u32,
    /// Not 0: the program under test moves the start of the packet, so the empty one makes up for the moving back.
    pub moves: u32,
    /// The action that counts as expected.
    pub action: u32,
    /// Slots of the flow table from one client's to the next one's, where that is all that is read.
    pub spacing: u32,
    /// Rounds that ended with it.
    pub expected: u64,
}

const _: () = assert!(size_of::<Timed>() == 144);
const _: () = assert!(HEADERS6 <= OFFSET);

/// From a client.
pub const TO_SERVICE: u32 = 0;
/// From the backend, to a client: `nat`.
pub const TO_CLIENT: u32 = 1;
/// From a backend, to an address and port that the node gave a flow, both in the map of replies: `fullnat`.
pub const TO_NODE: u32 = 2;

/// Port and last word of the address of a client by number, in the machine's byte order.
#[inline(always)]
#[must_use]
pub const fn client(first: u32, number: u32) -> (u32, u16) {
    (first + (number >> 14), 1024 + (number as u16 & 0x3fff))
}

/// Where a reply of `fullnat` comes from and goes to, in one word.
#[inline(always)]
#[must_use]
pub const fn reply(backend: u8, allocated: u8, port: u16) -> u32 {
    (backend as u32) << 24 | (allocated as u32) << 16 | port as u32
}

/// Last words of the addresses a reply of `fullnat` comes from and goes to, and the port, in the machine's byte order.
#[inline(always)]
#[must_use]
pub const fn reply_ends(backend: u32, allocated: u32, reply: u32) -> (u32, u32, u16) {
    (backend + (reply >> 24), allocated + (reply >> 16 & 0xff), reply as u16)
}
