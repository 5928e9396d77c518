//! IP headers around a message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{checksum, sum};
use super::{Discard, PROTOCOL, TRAFFIC_CLASS, TTL};

pub(super) const V4_HEADER: usize = 20;
pub(super) const V6_HEADER: usize = 40;

/// What the IP header told about an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Or hop limit.
    pub ttl: u8,
}

/// Takes a whole IPv4 packet apart, as a raw socket delivers it; bytes after its total length are padding.
///
/// # Errors
/// [`Discard::BadHeader`].
pub fn split(packet: &[u8]) -> Result<(Meta, &[u8]), Discard> {
    let header = packet.first_chunk::<V4_HEADER>().ok_or(Discard::BadHeader)?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_length < V4_HEADER || header[9] != PROTOCOL {
        return Err(Discard::BadHeader);
    }
    let payload = packet.get(header_length..total_length).ok_or(Discard::BadHeader)?;
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into();
    Ok((Meta { source: address(12), destination: address(16), ttl: header[8] }, payload))
}

/// Which part of a packet a fragment is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    pub(super) identification: u32,
    /// In units of 8 bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
}

/// An IPv4 header without options (RFC 791 section 3.1).
pub(super) fn v4_header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    payload: usize,
    fragment: Option<Fragment>,
) -> [u8; V4_HEADER] {
    let length = u16::try_from(V4_HEADER + payload).expect("a message has at most 1068 bytes over IPv4");
    let [high, low] = length.to_be_bytes();
    let mut header = [0; V4_HEADER];
    header[..4].copy_from_slice(&[0x45, TRAFFIC_CLASS, high, low]);
    if let Some(Fragment { identification, offset, more }) = fragment {
        header[4..6].copy_from_slice(&identification.to_be_bytes()[2..]);
        header[6..8].copy_from_slice(&(u16::from(more) << 13 | offset).to_be_bytes());
    }
    header[8..10].copy_from_slice(&[TTL, PROTOCOL]);
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&destination.octets());
    let sum = checksum(sum(&header));
    header[10..12].copy_from_slice(&sum);
    header
}

/// An IPv6 header (RFC 8200 section 3), with a Fragment header (section 4.5) if need be.
pub(super) fn v6_header(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    payload: usize,
    fragment: Option<Fragment>,
) -> Vec<u8> {
    const FRAGMENT: u8 = 44;
    let extension = fragment.map(|Fragment { identification, offset, more }| {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        let [a, b, c, d] = identification.to_be_bytes();
        [PROTOCOL, 0, high, low, a, b, c, d]
    });
    let extension = extension.as_ref().map_or(&[][..], |extension| extension);
    let length = u16::try_from(extension.len() + payload).expect("a message has at most 4120 bytes");
    let next = if fragment.is_some() { FRAGMENT } else { PROTOCOL };
    let mut header = Vec::with_capacity(V6_HEADER + extension.len() + payload);
    header.extend([0x60 | TRAFFIC_CLASS >> 4, TRAFFIC_CLASS << 4, 0, 0]);
    header.extend(length.to_be_bytes());
    header.extend([next, TTL]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header.extend(extension);
    header
}
