//! Which addresses are held and not accepted for.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::mirror::{Mirror, Names};
use super::refusals::{Identity, identity};
use super::wanted::{Wanted, macvlan_name};

/// What is not accepted, and where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusing {
    pub(super) instances: BTreeSet<Identity>,
    /// Names by number: of all groups, for the host takes a packet to any of its addresses by any interface.
    pub(super) interfaces: BTreeMap<u32, String>,
    /// Those that are held.
    pub(super) addresses: BTreeMap<IpAddr, Identity>,
    /// Interfaces on which an earlier process may have left something.
    pub(super) bases: BTreeMap<u32, String>,
}

impl Refusing {
    pub(super) fn new<'a>(
        mirror: &Mirror,
        names: &Names,
        groups: impl Iterator<Item = &'a Wanted> + Clone,
    ) -> Self {
        let mut refusing = Self::default();
        let interface = |index: u32| Some((index, mirror.by_index(index)?.name.clone()));
        let bases = groups.clone().flat_map(Wanted::interfaces).filter_map(|name| names.index(name));
        refusing.bases = bases.filter_map(interface).collect();
        for wanted in groups {
            for member in wanted.members.iter().filter(|member| !member.accept) {
                let identity = identity(&member.interface, member.vrid);
                if wanted.hold {
                    let addresses = member.addresses.iter().map(|address| address.prefix.address);
                    refusing.addresses.extend(addresses.map(|address| (address, identity.clone())));
                }
                refusing.instances.insert(identity);
                if let (true, Some(base)) = (member.virtual_mac, names.index(&member.interface)) {
                    let names = member.families().map(|family| macvlan_name(family, member.vrid, base));
                    let links = names.filter_map(|name| mirror.by_name(&name));
                    refusing.interfaces.extend(links.map(|link| (link.index, link.name.clone())));
                }
            }
        }
        if !refusing.instances.is_empty() {
            refusing.interfaces.extend(refusing.bases.clone());
        }
        refusing
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan_tests::{
        BASE, MACVLAN, instance, link_message, macvlan_message, mirror, target, wanted,
    };
    use super::super::wanted::Family;
    use super::*;
    use crate::config::model::{Instance, Priority};

    const ADDRESSES: [&str; 2] = ["192.0.2.10", "2001:db8::10"];
    const INSIDE: u32 = 3;

    fn silent() -> Instance {
        Instance { accept: false, ..instance(&ADDRESSES) }
    }

    fn refusing(mirror: &Mirror, groups: &[Wanted]) -> Refusing {
        Refusing::new(mirror, &target(mirror, groups).0, groups.iter())
    }

    #[test]
    fn addresses_are_refused_while_they_are_held_and_interfaces_are_known_before() {
        let host = mirror(&[]);
        for hold in [false, true] {
            let found = refusing(&host, &[wanted(hold, &silent())]);
            assert_eq!(found.interfaces, BTreeMap::from([(BASE, "eth0".to_owned())]));
            assert_eq!(found.instances.len(), 1);
            let addresses: Vec<String> = found.addresses.keys().map(IpAddr::to_string).collect();
            assert_eq!(addresses, if hold { &ADDRESSES[..] } else { &[] });
        }
    }

    #[test]
    fn instances_that_accept_and_owners_have_nothing_refused() {
        let owner = Instance { priority: Priority::OWNER, ..silent() };
        for instance in [instance(&ADDRESSES), owner] {
            let found = refusing(&mirror(&[]), &[wanted(true, &instance)]);
            assert!(found.interfaces.is_empty() && found.addresses.is_empty() && found.instances.is_empty());
            assert!(found.bases.contains_key(&BASE), "what an earlier process left there is removed");
        }
    }

    #[test]
    fn packets_are_refused_at_virtual_macs_and_at_interfaces_of_other_groups() {
        let mut host = mirror(&[]);
        host.take(&link_message(INSIDE, "eth1"));
        host.take(&macvlan_message(MACVLAN, Family::V4, false));
        let inside = Instance { interface: "eth1".to_owned(), ..instance(&["198.51.100.1"]) };
        let silent = Instance { virtual_mac: true, ..silent() };
        let found = refusing(&host, &[wanted(false, &inside), wanted(true, &silent)]);
        assert_eq!(found.interfaces.keys().copied().collect::<Vec<_>>(), [BASE, INSIDE, MACVLAN]);
        assert_eq!(found.addresses.len(), ADDRESSES.len());
    }
}
