//! MAC addresses that frames for this node are sent to.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::pod::pod;

/// A MAC address on an interface.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Station {
    pub ifindex: u32,
    pub address: [u8; 6],
    pub zero: u16,
}

pod!(Station = 12 bytes);

/// Words of the cache of stations. A power of two.
pub const OWN: u32 = 256;

/// A station in one word. Interfaces whose indexes agree in their last 16 bits look alike.
#[inline(always)]
#[must_use]
pub const fn word(ifindex: u32, address: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = address;
    u64::from_ne_bytes([a, b, c, d, e, f, ifindex as u8, (ifindex >> 8) as u8])
}

/// Where in the cache it would be.
#[inline(always)]
#[must_use]
pub const fn index(word: u64) -> u32 {
    let [_, _, _, _, e, f, low, _] = word.to_ne_bytes();
    (e ^ f ^ low) as u32 & (OWN - 1)
}
