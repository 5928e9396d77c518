//! Addresses as map fields and as they are in IP headers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::pod::pod;

/// An IPv6 address, or an IPv4 address mapped into IPv6 (RFC 4291 section 2.5.5.2), in network order.
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
#[repr(transparent)]
pub struct Addr([u32; 4]);

/// An IPv4 address in network order: its four bytes as they are in memory on the wire.
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
#[repr(transparent)]
pub struct V4(pub u32);

pod!(Addr = 16 bytes, V4 = 4 bytes);

/// An address of one family. What is the same for both families is written once, for any of these.
pub trait Address: Copy + Eq + 'static {
    /// What a slot of the flow table has room for beside the key.
    type Other: Copy + core::fmt::Debug + AsRef<[u32]> + AsMut<[u32]>;
    const IS_V4: bool;

    fn from_mapped(address: Addr) -> Self;
    fn mapped(self) -> Addr;
    /// Spreads a pair of addresses over 64 bits.
    fn mix(source: Self, destination: Self, seed: u64) -> u64;
    /// What a service's address takes up in a slot.
    fn to_other(self) -> Self::Other;
    fn from_other(other: &Self::Other) -> Self;
}

impl Address for V4 {
    type Other = [u32; 2];
    const IS_V4: bool = true;

    #[inline(always)]
    fn from_mapped(address: Addr) -> Self {
        Self(address.v4())
    }

    #[inline(always)]
    fn mapped(self) -> Addr {
        Addr::from_v4(self.0)
    }

    #[inline(always)]
    fn mix(source: Self, destination: Self, seed: u64) -> u64 {
        (pair(source.0, destination.0) ^ seed).wrapping_mul(ODD[0])
    }

    #[inline(always)]
    fn to_other(self) -> [u32; 2] {
        [self.0, 0]
    }

    #[inline(always)]
    fn from_other(other: &[u32; 2]) -> Self {
        Self(other[0])
    }
}

impl Address for Addr {
    type Other = [u32; 4];
    const IS_V4: bool = false;

    #[inline(always)]
    fn from_mapped(address: Addr) -> Self {
        address
    }

    #[inline(always)]
    fn mapped(self) -> Addr {
        self
    }

    /// Four products beside each other rather than one after another: they don't wait for one another.
    #[inline(always)]
    fn mix(source: Self, destination: Self, seed: u64) -> u64 {
        let words = [
            pair(source.0[0], source.0[1]),
            pair(source.0[2], source.0[3]),
            pair(destination.0[0], destination.0[1]),
            pair(destination.0[2], destination.0[3]),
        ];
        let product = |at: usize| {
            let product = (words[at] ^ seed).wrapping_mul(ODD[at]);
            product ^ (product >> 32)
        };
        product(0)
            .wrapping_add(product(1).wrapping_mul(ODD[4]))
            .wrapping_add(product(2))
            .wrapping_add(product(3).wrapping_mul(ODD[5]))
    }

    #[inline(always)]
    fn to_other(self) -> [u32; 4] {
        self.0
    }

    #[inline(always)]
    fn from_other(other: &[u32; 4]) -> Self {
        Self(*other)
    }
}

/// Odd constants of MurmurHash3, xxHash and splitmix64: nothing up the sleeve.
const ODD: [u64; 6] = [
    0xff51_afd7_ed55_8ccd,
    0xc4ce_b9fe_1a85_ec53,
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0xbf58_476d_1ce4_e5b9,
];

/// Two words as they lie beside each other in memory.
#[inline(always)]
const fn pair(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "big") {
        (first as u64) << 32 | second as u64
    } else {
        (second as u64) << 32 | first as u64
    }
}

impl Addr {
    /// From the four bytes of an IPv4 address as they are in memory on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(address: u32) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), address])
    }

    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// The last four bytes: the IPv4 address, if this is one.
    #[inline(always)]
    #[must_use]
    pub const fn v4(self) -> u32 {
        self.0[3]
    }

    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0xffff_u32.to_be()
    }
}

#[cfg(feature = "user")]
mod user {
    extern crate std;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{Addr, V4};
    use zerocopy::IntoBytes as _;

    impl From<IpAddr> for Addr {
        fn from(address: IpAddr) -> Self {
            match address {
                IpAddr::V4(v4) => Self::from(v4),
                IpAddr::V6(v6) => Self::from(v6),
            }
        }
    }

    impl From<Ipv4Addr> for Addr {
        fn from(address: Ipv4Addr) -> Self {
            Self::from_v4(V4::from(address).0)
        }
    }

    impl From<Ipv6Addr> for Addr {
        fn from(address: Ipv6Addr) -> Self {
            zerocopy::transmute!(address.octets())
        }
    }

    impl From<Ipv4Addr> for V4 {
        fn from(address: Ipv4Addr) -> Self {
            Self(u32::from_ne_bytes(address.octets()))
        }
    }

    impl From<Addr> for IpAddr {
        fn from(address: Addr) -> Self {
            if address.is_v4() {
                Self::V4(Ipv4Addr::from(address.v4().to_ne_bytes()))
            } else {
                let mut octets = [0; 16];
                octets.copy_from_slice(address.as_bytes());
                Self::V6(Ipv6Addr::from(octets))
            }
        }
    }
}
