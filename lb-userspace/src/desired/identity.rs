//! What a backend is called in the flow table: the same on both nodes of a pair, whatever its number is there.

use std::net::{IpAddr, SocketAddr};

use super::Family;

/// FNV-1a with the finalizer of MurmurHash3 over service, family, IP protocol number, address and port; never 0. Both
/// nodes must agree on it.
#[must_use]
pub fn identity(service: &str, family: Family, protocol: u8, backend: SocketAddr) -> u32 {
    let address = match backend.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    // Of fixed length but for the name, which comes last: no two ways to cut one string of bytes.
    let head = [family as u8, protocol];
    let bytes = head.into_iter().chain(address.octets()).chain(backend.port().to_be_bytes());
    let hash = bytes.chain(service.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53]
        .into_iter()
        .fold(hash, |hash: u64, factor| (hash ^ (hash >> 33)).wrapping_mul(factor));
    ((mixed >> 32) as u32).max(1)
}
