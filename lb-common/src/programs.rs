//! Places in the array of the programs that a packet goes on in.

/// For a packet that is not of a known flow.
pub const REST: u32 = 0;
/// For an IPv6 packet.
pub const IPV6: u32 = 1;
pub const COUNT: u32 = 2;
