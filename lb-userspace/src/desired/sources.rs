//! Addresses that a service knows beside those it listens on: sources of its clients, and those of `fullnat`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::addr::Addr;
use lb_common::service::{SOURCE_ALLOWED, SOURCE_DENIED, SOURCES, Sources};

use super::Family;
use crate::config::model::{self, Forward, Prefix};

/// A prefix of source addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePrefix {
    /// Zeros after the prefix.
    pub network: Addr,
    /// Counted in a mapped address: 96 more for IPv4.
    pub length: u8,
}

/// What becomes of the sources of a family that the service has a word for.
pub(super) fn of(configured: &model::Service, family: Family) -> BTreeMap<SourcePrefix, u32> {
    let listed = |prefixes: &'_ [Prefix], word: u32| {
        let of_family = prefixes.iter().filter(move |prefix| Family::of(prefix.address) == family);
        of_family.map(|prefix| (source_prefix(*prefix), word)).collect::<Vec<_>>()
    };
    let allowed = listed(&configured.allow, SOURCE_ALLOWED);
    allowed.into_iter().chain(listed(&configured.deny, SOURCE_DENIED)).collect()
}

fn source_prefix(prefix: Prefix) -> SourcePrefix {
    let (address, length) = match prefix.address {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 96 + prefix.length.min(32)),
        IpAddr::V6(address) => (address, prefix.length.min(128)),
    };
    let network = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0) & address.to_bits();
    SourcePrefix { network: Addr::from(std::net::Ipv6Addr::from_bits(network)), length }
}

/// Source addresses of one family that `fullnat` gives to flows.
pub(super) fn pool(configured: &model::Service, family: Family) -> Option<Sources> {
    let Forward::FullNat(full_nat) = &configured.forward else {
        return None;
    };
    let mut pool = Sources {
        first_port: full_nat.ports.first,
        ports: (full_nat.ports.last - full_nat.ports.first).saturating_add(1),
        ..Sources::default()
    };
    let of_family = full_nat.sources.iter().filter(|address| Family::of(**address) == family);
    for (place, address) in pool.addresses.iter_mut().zip(of_family.take(SOURCES)) {
        *place = Addr::from(*address);
        pool.count += 1;
    }
    Some(pool)
}
