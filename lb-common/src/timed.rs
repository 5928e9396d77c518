//! What the timed copy of the program carries in the packet it works on, so that timing touches no map.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where [`Timed`] is in the frame.
pub const OFFSET: usize = 64;
/// Bytes of the headers that every round writes afresh: Ethernet, IPv4, TCP, and two of the payload.
pub const HEADERS: usize = 56;

/// Parameters and state of a run of many rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timed {
    /// The headers of a round, but for the client's address and port.
    pub headers: [u64; HEADERS / 8],
    /// Rounds so far.
    pub round: u64,
    /// The client of a round is number `round * stride & mask`. An odd stride visits every number below a power of two.
    pub stride: u64,
    pub mask: u64,
    /// Address of client 0, in the machine's byte order. Every address has 16,384 ports.
    pub client: u32,
    /// Not 0: the client is where the packet goes to.
    pub reply: u32,
    /// Not 0: the program under test moves the start of the packet, so the empty one makes up for the moving back.
    pub moves: u32,
    /// The action that counts as expected.
    pub action: u32,
    /// Rounds that ended with it.
    pub expected: u64,
}

const _: () = assert!(size_of::<Timed>() == 104);

/// Port and address of a client by number, in the machine's byte order.
#[inline(always)]
#[must_use]
pub const fn client(first: u32, number: u32) -> (u32, u16) {
    (first + (number >> 14), 1024 + (number as u16 & 0x3fff))
}
