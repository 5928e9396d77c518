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
