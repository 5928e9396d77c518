//! An advertisement, and its message.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::auth::Signer;
use super::checksum::{checksum, pseudo_header_sum, sum};
use super::{Checksum, Family, TYPE_ADVERTISEMENT, v2, v3};
use crate::config::model::{Version, Vrid};

/// Of a message of either version, before its addresses.
pub(super) const HEADER: usize = 8;
pub(super) const CHECKSUM: std::ops::Range<usize> = 6..8;

/// One advertisement, as heard or as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    pub vrid: Vrid,
    /// 0: the master stops; 255: the owner of the addresses.
    pub priority: u8,
    /// Version 3: 10 ms to 40.95 s in steps of 10 ms. Version 2: 1 s to 255 s in whole seconds.
    pub interval: Duration,
    /// 1 to 255 of them.
    pub addresses: Addresses,
}

/// The virtual addresses that a virtual router advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    V4(Vec<Ipv4Addr>),
    V6(Vec<Ipv6Addr>),
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = match self {
            Self::V4(all) => all.iter().map(ToString::to_string).collect(),
            Self::V6(all) => all.iter().map(ToString::to_string).collect(),
        };
        write!(f, "{}", all.join(" "))
    }
}

impl Addresses {
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// In whatever order.
    #[must_use]
    pub fn has_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::V4(these), Self::V4(those)) => BTreeSet::from_iter(these) == BTreeSet::from_iter(those),
            (Self::V6(these), Self::V6(those)) => BTreeSet::from_iter(these) == BTreeSet::from_iter(those),
            _ => false,
        }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::V4(all) => all.is_empty(),
            Self::V6(all) => all.is_empty(),
        }
    }

    /// How many fit the field, and their bytes.
    fn count_and_octets(&self) -> (u8, Vec<u8>) {
        const MOST: usize = u8::MAX as usize;
        let (count, octets) = match self {
            Self::V4(all) => (all.len(), all.iter().take(MOST).flat_map(Ipv4Addr::octets).collect()),
            Self::V6(all) => (all.len(), all.iter().take(MOST).flat_map(Ipv6Addr::octets).collect()),
        };
        (u8::try_from(count).unwrap_or(u8::MAX), octets)
    }

    pub(super) fn from_octets(family: Family, octets: &[u8]) -> Self {
        match family {
            Family::V4 => {
                Self::V4(octets.as_chunks().0.iter().map(|octets: &[u8; 4]| (*octets).into()).collect())
            }
            Family::V6 => {
                Self::V6(octets.as_chunks().0.iter().map(|octets: &[u8; 16]| (*octets).into()).collect())
            }
        }
    }
}

/// Version 2 has no IPv6 (RFC 3768 section 1): what has both families speaks version 3 there.
pub(super) fn version_for(version: Version, family: Family) -> Version {
    match family {
        Family::V4 => version,
        Family::V6 => Version::V3,
    }
}

impl Advert {
    /// The message between two addresses, with what the signer adds. Addresses beyond the 255 that the count can tell are
    /// left out.
    ///
    /// `version` and `form` are for IPv4: IPv6 has version 3 only, always with the pseudo-header. `clock` is the wall
    /// clock, as time since 1970.
    #[must_use]
    pub fn message(
        &self,
        version: Version,
        source: IpAddr,
        destination: IpAddr,
        form: Checksum,
        signer: &mut Signer,
        clock: Duration,
    ) -> Vec<u8> {
        let family = self.addresses.family();
        match version_for(version, family) {
            Version::V2 => self.v2(signer),
            Version::V3 => {
                let form = if family == Family::V6 { Checksum::PseudoHeader } else { form };
                let mut message = self.v3(source, destination, form);
                let trailer = signer.trailer(source, destination, &message, form, self.interval, clock);
                message.extend(trailer.iter().flatten());
                message
            }
        }
    }

    fn v2(&self, signer: &Signer) -> Vec<u8> {
        let (kind, data) = match signer.password() {
            None => (v2::NO_AUTHENTICATION, [0; v2::AUTHENTICATION]),
            Some(password) => (v2::SIMPLE_TEXT_PASSWORD, password),
        };
        let mut message = self.unsummed(v2::VERSION, [kind, v2::interval_field(self.interval)]);
        message.extend(data);
        let covered = sum(&message);
        message[CHECKSUM].copy_from_slice(&checksum(covered));
        message
    }

    fn v3(&self, source: IpAddr, destination: IpAddr, form: Checksum) -> Vec<u8> {
        let mut message = self.unsummed(v3::VERSION, v3::interval_field(self.interval));
        let covered = match form {
            Checksum::Message => sum(&message),
            Checksum::PseudoHeader => sum(&message) + pseudo_header_sum(source, destination, message.len()),
        };
        message[CHECKSUM].copy_from_slice(&checksum(covered));
        message
    }

    /// Header and addresses, with zeros for the checksum.
    fn unsummed(&self, version: u8, [fifth, sixth]: [u8; 2]) -> Vec<u8> {
        let (count, octets) = self.addresses.count_and_octets();
        let version_type = version << 4 | TYPE_ADVERTISEMENT;
        let header = [version_type, self.vrid.as_u8(), self.priority, count, fifth, sixth, 0, 0];
        [&header[..], &octets].concat()
    }
}
