//! What a group is told of its interfaces.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::mirror::{Mirror, Names};
use super::target::Target;
use super::wanted::{Family, Place, Seen, SeenChannel, Usable, Wanted, virtual_mac};
use crate::net::address::Present;

/// The addresses to send from, each looked for once.
pub(super) struct Primaries<'a> {
    mirror: &'a Mirror,
    target: &'a Target,
    found: BTreeMap<(u32, Family), Option<IpAddr>>,
}

impl<'a> Primaries<'a> {
    pub(super) fn new(mirror: &'a Mirror, target: &'a Target) -> Self {
        Self { mirror, target, found: BTreeMap::new() }
    }

    fn of(&mut self, index: u32, family: Family) -> Option<IpAddr> {
        *self.found.entry((index, family)).or_insert_with(|| primary(self.mirror, self.target, index, family))
    }
}

pub(super) fn seen(primaries: &mut Primaries<'_>, names: &Names, wanted: &Wanted) -> Seen {
    let mirror = primaries.mirror;
    let mut channels = Vec::new();
    for (number, member) in wanted.members.iter().enumerate() {
        let link = names.index(&member.interface).and_then(|index| mirror.by_index(index));
        for family in member.families() {
            let interface = match link {
                None => Usable::Missing,
                Some(link) if !link.up => Usable::Down,
                Some(link) => primaries
                    .of(link.index, family)
                    .map_or(Usable::NoAddress, |primary| Usable::Up { primary }),
            };
            let place = link.map(|link| Place {
                index: link.index,
                mac: link.mac.unwrap_or_default(),
                mtu: link.mtu,
                virtual_mac: member.virtual_mac.then(|| virtual_mac(family, member.vrid)),
            });
            let (on, vrid) = (member.interface.clone(), member.vrid);
            channels.push(SeenChannel { member: number, on, vrid, family, interface, place });
        }
    }
    Seen { channels }
}

/// The address to send from, which is never a virtual one: the first of IPv4, a primary before a secondary one; the
/// link-local one of IPv6 (RFC 9568 section 5.1.2.1).
fn primary(mirror: &Mirror, target: &Target, index: u32, family: Family) -> Option<IpAddr> {
    let is_candidate = |present: &&Present| {
        let fits = match present.at.address {
            IpAddr::V4(_) => family == Family::V4,
            IpAddr::V6(v6) => family == Family::V6 && v6.is_unicast_link_local() && !present.tentative,
        };
        fits && !target.is_virtual(present)
    };
    let candidates: Vec<&Present> = mirror.on(index).into_iter().filter(is_candidate).collect();
    let first = candidates.iter().find(|present| !present.secondary).or_else(|| candidates.first());
    first.map(|present| present.at.address)
}
