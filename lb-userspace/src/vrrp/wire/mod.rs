//! Bytes of a VRRP version 3 advertisement over IPv4 (RFC 9568 section 5).
#![deny(clippy::disallowed_methods)]

use std::net::Ipv4Addr;
use std::time::Duration;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::model::Vrid;

/// IP protocol number (RFC 9568 section 5.1.1.4).
pub const PROTOCOL: u8 = 112;
/// Destination of every advertisement (RFC 9568 section 5.1.1.2).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Sent and required, so that no packet from beyond a router counts (RFC 9568 section 5.1.1.3).
pub const TTL: u8 = 255;
/// The largest packet: an IPv4 header with all its options, and 255 addresses.
pub const MAX_PACKET: usize = 60 + HEADER + 255 * 4;

/// Internetwork control (RFC 2474 class selector 6), as keepalived sends.
const TOS: u8 = 0xc0;
const IP_HEADER: usize = 20;
const HEADER: usize = 8;
const VERSION: u8 = 3;
const TYPE_ADVERTISEMENT: u8 = 1;
/// Unit of the interval field (RFC 9568 section 5.2.7).
const CENTISECOND: Duration = Duration::from_millis(10);
const MAX_CENTISECONDS: u16 = 0x0fff;

/// One advertisement, as heard or as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    pub vrid: Vrid,
    /// 0: the master stops; 255: the owner of the addresses.
    pub priority: u8,
    /// 10 ms to 40.95 s in steps of 10 ms.
    pub interval: Duration,
    /// 1 to 255 of them.
    pub addresses: Vec<Ipv4Addr>,
}

/// What the checksum of an advertisement covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// The VRRP message alone: RFC 9568 section 5.2.8 for IPv4.
    #[default]
    Message,
    /// A pseudo-header too: how RFC 5798 was read by keepalived and FRR.
    PseudoHeader,
}

/// What the IP header told about an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ttl: u8,
}

/// Whose advertisements count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub vrid: Vrid,
    /// Address this node sends from.
    pub own: Option<Ipv4Addr>,
}

/// Why a packet was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// No IPv4 header, or one whose lengths contradict the packet.
    BadHeader,
    /// Not sent to the VRRP group.
    BadDestination,
    /// TTL is not 255: it may come from another network.
    BadTtl,
    /// Shorter than its header and address count say.
    Truncated,
    BadVersion,
    /// Not an advertisement.
    BadType,
    BadChecksum,
    /// Another virtual router on the same network.
    Vrid,
    /// It carries no address.
    AddressCount,
    /// Interval 0.
    BadInterval,
    /// From this node's own address: a loop, or an address used twice.
    OwnAddress,
}

impl Discard {
    pub const ALL: [Self; 11] = [
        Self::BadHeader,
        Self::BadDestination,
        Self::BadTtl,
        Self::Truncated,
        Self::BadVersion,
        Self::BadType,
        Self::BadChecksum,
        Self::Vrid,
        Self::AddressCount,
        Self::BadInterval,
        Self::OwnAddress,
    ];

    /// Metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadHeader => "bad_header",
            Self::BadDestination => "bad_destination",
            Self::BadTtl => "bad_ttl",
            Self::Truncated => "truncated",
            Self::BadVersion => "bad_version",
            Self::BadType => "bad_type",
            Self::BadChecksum => "bad_checksum",
            Self::Vrid => "vrid",
            Self::AddressCount => "address_count",
            Self::BadInterval => "bad_interval",
            Self::OwnAddress => "own_address",
        }
    }
}

/// An accepted advertisement and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub advert: Advert,
    pub source: Ipv4Addr,
    pub checksum: Checksum,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    version_type: u8,
    vrid: u8,
    priority: u8,
    count: u8,
    /// Upper four bits reserved, ignored on receipt (RFC 9568 section 5.2.6).
    interval: U16,
    checksum: U16,
}

/// Decodes a whole IPv4 packet, as a raw socket delivers it; bytes after its total length are padding.
///
/// # Errors
/// The reason to count.
pub fn parse_packet(packet: &[u8], expected: Expected) -> Result<Received, Discard> {
    let (meta, payload) = parse_ip(packet)?;
    let (advert, checksum) = Advert::parse(payload, meta, expected)?;
    Ok(Received { advert, source: meta.source, checksum })
}

fn parse_ip(packet: &[u8]) -> Result<(Meta, &[u8]), Discard> {
    let header = packet.first_chunk::<IP_HEADER>().ok_or(Discard::BadHeader)?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_length < IP_HEADER || header[9] != PROTOCOL {
        return Err(Discard::BadHeader);
    }
    let payload = packet.get(header_length..total_length).ok_or(Discard::BadHeader)?;
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    Ok((Meta { source: address(12), destination: address(16), ttl: header[8] }, payload))
}

impl Advert {
    /// Decodes the payload of an IPv4 packet, with the checks of RFC 9568 section 7.1; bytes after the addresses
    /// are padding.
    ///
    /// # Errors
    /// The reason to count.
    pub fn parse(payload: &[u8], meta: Meta, expected: Expected) -> Result<(Self, Checksum), Discard> {
        if meta.destination != GROUP {
            return Err(Discard::BadDestination);
        }
        if meta.ttl != TTL {
            return Err(Discard::BadTtl);
        }
        let version_type = *payload.first().ok_or(Discard::Truncated)?;
        if version_type >> 4 != VERSION {
            return Err(Discard::BadVersion);
        }
        if version_type & 0x0f != TYPE_ADVERTISEMENT {
            return Err(Discard::BadType);
        }
        let (header, rest) = Header::ref_from_prefix(payload).map_err(|_| Discard::Truncated)?;
        let length = HEADER + usize::from(header.count) * 4;
        let message = payload.get(..length).ok_or(Discard::Truncated)?;
        let checksum = verify(message, meta).ok_or(Discard::BadChecksum)?;
        if header.vrid != expected.vrid.as_u8() {
            return Err(Discard::Vrid);
        }
        if header.count == 0 {
            return Err(Discard::AddressCount);
        }
        let centiseconds = header.interval.get() & MAX_CENTISECONDS;
        if centiseconds == 0 {
            return Err(Discard::BadInterval);
        }
        if expected.own == Some(meta.source) {
            return Err(Discard::OwnAddress);
        }
        let addresses = rest[..length - HEADER]
            .chunks_exact(4)
            .map(|octets| Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
            .collect();
        let interval = CENTISECOND * u32::from(centiseconds);
        Ok((Self { vrid: expected.vrid, priority: header.priority, interval, addresses }, checksum))
    }

    /// A whole IPv4 packet from `source` to the group. Addresses beyond the 255 that the count can tell are left out.
    ///
    /// The IP header's checksum is left to the kernel, which fills it for a socket with `IP_HDRINCL` (raw(7)).
    #[must_use]
    pub fn emit(&self, source: Ipv4Addr, checksum: Checksum) -> Vec<u8> {
        let message = self.emit_message(source, checksum);
        let length = u16::try_from(IP_HEADER + message.len()).expect("a message has at most 1028 bytes");
        let mut packet = Vec::with_capacity(usize::from(length));
        packet.extend([0x45, TOS]);
        packet.extend(length.to_be_bytes());
        // No identification, offset or flag: at most 1048 bytes, so never in fragments on Ethernet.
        packet.extend([0, 0, 0, 0, TTL, PROTOCOL, 0, 0]);
        packet.extend(source.octets());
        packet.extend(GROUP.octets());
        packet.extend(message);
        packet
    }

    fn emit_message(&self, source: Ipv4Addr, checksum: Checksum) -> Vec<u8> {
        let count = u8::try_from(self.addresses.len()).unwrap_or(u8::MAX);
        let centiseconds = u16::try_from(self.interval.as_millis() / CENTISECOND.as_millis())
            .unwrap_or(MAX_CENTISECONDS)
            .clamp(1, MAX_CENTISECONDS);
        let mut header = Header {
            version_type: VERSION << 4 | TYPE_ADVERTISEMENT,
            vrid: self.vrid.as_u8(),
            priority: self.priority,
            count,
            interval: U16::new(centiseconds),
            checksum: U16::ZERO,
        };
        let addresses: Vec<u8> =
            self.addresses.iter().take(usize::from(count)).flat_map(Ipv4Addr::octets).collect();
        let message_sum = sum(header.as_bytes()) + sum(&addresses);
        let covered = match checksum {
            Checksum::Message => message_sum,
            Checksum::PseudoHeader => {
                message_sum + pseudo_header_sum(source, GROUP, HEADER + addresses.len())
            }
        };
        header.checksum = U16::new(!fold(covered));
        [header.as_bytes(), &addresses].concat()
    }
}

fn verify(message: &[u8], meta: Meta) -> Option<Checksum> {
    let message_sum = sum(message);
    if fold(message_sum) == 0xffff {
        return Some(Checksum::Message);
    }
    let with_pseudo_header = message_sum + pseudo_header_sum(meta.source, meta.destination, message.len());
    (fold(with_pseudo_header) == 0xffff).then_some(Checksum::PseudoHeader)
}

/// RFC 9293 section 3.1's IPv4 pseudo-header, with the protocol of VRRP.
fn pseudo_header_sum(source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> u32 {
    let length = u32::try_from(length).expect("a message has at most 1028 bytes");
    sum(&source.octets()) + sum(&destination.octets()) + u32::from(PROTOCOL) + length
}

/// Sum of 16-bit words (RFC 1071), of an even number of bytes far below the 128 KiB that could overflow it.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    u16::try_from(twice).expect("two folds leave 16 bits")
}

#[cfg(test)]
mod tests;
