//! The Internet checksum (RFC 1071), with and without a pseudo-header.

use std::net::IpAddr;

use super::PROTOCOL;

/// What the checksum of an advertisement of version 3 over IPv4 covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// The VRRP message alone (RFC 9568 section 5.2.8).
    #[default]
    Message,
    /// A pseudo-header too: how RFC 5798 was read by keepalived and FRR.
    PseudoHeader,
}

/// The checksum to write over `covered` in place of zeros.
pub(super) fn checksum(covered: u32) -> [u8; 2] {
    (!fold(covered)).to_be_bytes()
}

/// Whether what is covered has its right checksum in it.
pub(super) fn is_right(covered: u32) -> bool {
    fold(covered) == 0xffff
}

/// The pseudo-header of IPv4 (RFC 9293 section 3.1) or IPv6 (RFC 8200 section 8.1), with the protocol of VRRP.
pub(super) fn pseudo_header_sum(source: IpAddr, destination: IpAddr, length: usize) -> u32 {
    let length = u32::try_from(length).expect("a message has at most 4120 bytes");
    address_sum(source) + address_sum(destination) + u32::from(PROTOCOL) + length
}

fn address_sum(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

/// Sum of 16-bit words, of an even number of bytes far below the 128 KiB that could overflow it.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    u16::try_from(twice).expect("two folds leave 16 bits")
}
