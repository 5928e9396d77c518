//! Addresses as map fields.

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

pod!(Addr = 16 bytes);

impl Addr {
    /// From the four bytes of an IPv4 address as they are in memory on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(address: u32) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), address])
    }

    /// The last four bytes: the IPv4 address, if this is one.
    #[inline(always)]
    #[must_use]
    pub const fn v4(self) -> u32 {
        self.0[3]
    }

    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0xffff_u32.to_be()
    }
}

#[cfg(feature = "user")]
mod user {
    extern crate std;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::Addr;
    use zerocopy::IntoBytes as _;

    impl From<IpAddr> for Addr {
        fn from(address: IpAddr) -> Self {
            match address {
                IpAddr::V4(v4) => Self::from(v4),
                IpAddr::V6(v6) => zerocopy::transmute!(v6.octets()),
            }
        }
    }

    impl From<Ipv4Addr> for Addr {
        fn from(address: Ipv4Addr) -> Self {
            Self::from_v4(u32::from_ne_bytes(address.octets()))
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
