//! Which packets count.

use std::net::IpAddr;
use std::time::Duration;

use super::advert::{Addresses, Advert, HEADER, version_for};
use super::auth::Receiver;
use super::checksum::{is_right, sum};
use super::{Checksum, Discard, Family, Meta, TTL, TYPE_ADVERTISEMENT, v2, v3};
use crate::config::model::{Version, Vrid};

/// Whose advertisements count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    pub vrid: Vrid,
    /// For IPv4; IPv6 has version 3 only.
    pub version: Version,
    pub family: Family,
    /// Address this node sends from.
    pub own: Option<IpAddr>,
    /// `None`: those to the multicast group.
    pub unicast: Option<Unicast<'a>>,
    /// This node's own. Version 2 ignores packets with another (RFC 3768 section 7.1).
    pub interval: Duration,
}

/// Peers to listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unicast<'a> {
    pub peers: &'a [IpAddr],
    pub min_ttl: u8,
}

/// An accepted advertisement and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub advert: Advert,
    pub source: IpAddr,
    /// Form of the checksum where there are two: in version 3 over IPv4.
    pub checksum: Option<Checksum>,
    /// Number of the key that it is signed with; `None`: it is not signed, or no key is configured here.
    pub key: Option<u8>,
}

/// Decodes the payload of an IP packet, with the checks of RFC 9568 section 7.1 or RFC 3768 section 7.1; bytes after
/// the message are padding or, where keys are configured, a signature. `clock` is the wall clock, as time since 1970.
///
/// # Errors
/// The reason to count.
pub fn decode(
    payload: &[u8],
    meta: Meta,
    expected: &Expected<'_>,
    receiver: &mut Receiver,
    clock: Duration,
) -> Result<Received, Discard> {
    // First, whatever else is wrong with it: what another virtual router does is not this one's concern.
    if *payload.get(1).ok_or(Discard::Truncated)? != expected.vrid.as_u8() {
        return Err(Discard::Vrid);
    }
    check_way(meta, expected)?;
    let version = version_for(expected.version, expected.family);
    let (message, rest) = cut(payload, version, expected.family)?;
    let checksum = match version {
        Version::V2 => is_right(sum(message)).then_some(Checksum::Message),
        Version::V3 => v3::checksum_of(message, meta),
    };
    let checksum = checksum.ok_or(Discard::BadChecksum)?;
    let &[_, _, priority, count, fifth, sixth, _, _] =
        message.first_chunk::<HEADER>().ok_or(Discard::Truncated)?;
    if count == 0 {
        return Err(Discard::AddressCount);
    }
    if expected.own == Some(meta.source) {
        return Err(Discard::OwnAddress);
    }
    let (addresses, data) = message[HEADER..].split_at(usize::from(count) * size(expected.family));
    let (interval, key) = match version {
        Version::V2 => {
            receiver.check_text(fifth, data)?;
            (v2::interval(sixth, expected.interval)?, None)
        }
        Version::V3 => {
            let interval = v3::interval([fifth, sixth])?;
            (interval, receiver.check_trailer(message, rest, meta, checksum, expected.interval, clock)?)
        }
    };
    let addresses = Addresses::from_octets(expected.family, addresses);
    let checksum = (version == Version::V3 && expected.family == Family::V4).then_some(checksum);
    let advert = Advert { vrid: expected.vrid, priority, interval, addresses };
    Ok(Received { advert, source: meta.source, checksum, key })
}

/// Where it comes from and by which way.
fn check_way(meta: Meta, expected: &Expected<'_>) -> Result<(), Discard> {
    if Family::of(meta.source) != expected.family || Family::of(meta.destination) != expected.family {
        return Err(Discard::BadHeader);
    }
    let to_group = meta.destination == expected.family.group();
    if !to_group && is_to_many(meta.destination) {
        return Err(Discard::BadDestination);
    }
    let min_ttl = match expected.unicast {
        None if !to_group => return Err(Discard::Unicast),
        None => TTL,
        Some(_) if to_group => return Err(Discard::Multicast),
        Some(Unicast { peers, .. }) if !peers.contains(&meta.source) => return Err(Discard::UnknownPeer),
        Some(Unicast { min_ttl, .. }) => min_ttl,
    };
    if meta.ttl < min_ttl { Err(Discard::BadTtl) } else { Ok(()) }
}

fn is_to_many(destination: IpAddr) -> bool {
    let is_broadcast = matches!(destination, IpAddr::V4(destination) if destination.is_broadcast());
    is_broadcast || destination.is_multicast()
}

/// Separates the message from what follows it.
fn cut(payload: &[u8], version: Version, family: Family) -> Result<(&[u8], &[u8]), Discard> {
    let (number, data) = match version {
        Version::V2 => (v2::VERSION, v2::AUTHENTICATION),
        Version::V3 => (v3::VERSION, 0),
    };
    let version_type = *payload.first().ok_or(Discard::Truncated)?;
    if version_type >> 4 != number {
        return Err(Discard::BadVersion);
    }
    if version_type & 0x0f != TYPE_ADVERTISEMENT {
        return Err(Discard::BadType);
    }
    let count = *payload.get(3).ok_or(Discard::Truncated)?;
    let length = HEADER + usize::from(count) * size(family) + data;
    payload.split_at_checked(length).ok_or(Discard::Truncated)
}

fn size(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}
