//! What the kernel should have for all groups together.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::mirror::{Mirror, Names};
use super::wanted::{Family, Member, Wanted, macvlan_name, virtual_mac};
use crate::config::model::{Prefix, Route as ModelRoute, Rule as ModelRule, Scope, VirtualAddress};
use crate::net::address::{Address, Attributes, Present, network};
use crate::net::route::{Route, default_metric};
use crate::net::rule::Rule;

/// Number of a group.
pub(super) type Group = u64;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// By name.
    pub(super) macvlans: BTreeMap<String, Macvlan>,
    /// Interfaces that must not speak ARP for addresses of others.
    pub(super) quiet: BTreeSet<u32>,
    pub(super) addresses: BTreeMap<Address, Virtual>,
    pub(super) routes: BTreeSet<Route>,
    pub(super) rules: BTreeSet<Rule>,
    /// Addresses that somebody wants, held or not, by interface; and whether only owners do.
    configured: BTreeMap<(u32, IpAddr), bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Macvlan {
    pub(super) below: u32,
    pub(super) mac: [u8; 6],
    pub(super) family: Family,
    pub(super) up: bool,
}

/// An address that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Virtual {
    pub(super) group: Group,
    pub(super) attributes: Attributes,
    /// It was there without us and stays without us.
    pub(super) hosts_own: bool,
    /// The interface to announce by, and the MAC address the address is at.
    pub(super) announce: Option<(u32, [u8; 6])>,
}

impl Target {
    pub(super) fn new<'a>(
        mirror: &Mirror,
        names: &Names,
        groups: impl Iterator<Item = (Group, &'a Wanted)> + Clone,
    ) -> Self {
        let mut target = Self::default();
        for (_, wanted) in groups.clone() {
            for member in &wanted.members {
                target.configure(mirror, names, wanted, member);
            }
        }
        for (group, wanted) in groups.filter(|(_, wanted)| wanted.hold) {
            for member in &wanted.members {
                target.hold(mirror, names, (group, wanted), member);
            }
        }
        target
    }

    /// Whether the address is not the host's own.
    pub(super) fn is_virtual(&self, present: &Present) -> bool {
        present.ours || self.configured.get(&(present.at.index, present.at.address)) == Some(&false)
    }

    pub(super) fn has_v4_macvlans(&self) -> bool {
        self.macvlans.values().any(|macvlan| macvlan.family == Family::V4)
    }

    /// Addresses that are held and announced by one of the interfaces.
    pub(super) fn announced_by<'a>(&'a self, interfaces: &'a BTreeSet<u32>) -> impl Iterator<Item = Address> {
        let by = |held: &Virtual| held.announce.is_some_and(|(index, _)| interfaces.contains(&index));
        self.addresses.iter().filter(move |(_, held)| by(held)).map(|(at, _)| *at)
    }

    /// Configured addresses that are there without being held, or not as they should be.
    pub(super) fn surplus<'a>(&'a self, mirror: &'a Mirror) -> impl Iterator<Item = &'a Present> {
        let configured = self.configured.iter();
        let there = configured.flat_map(|(&(index, address), &owners)| {
            mirror.present_as(index, address).map(move |present| (present, owners))
        });
        there
            .filter(|(present, owners)| match self.addresses.get(&present.at) {
                Some(held) => !held.hosts_own && differs(present, &held.attributes),
                None => present.ours || !owners,
            })
            .map(|(present, _)| present)
    }

    fn configure(&mut self, mirror: &Mirror, names: &Names, wanted: &Wanted, member: &Member) {
        let Some(base) = names.index(&member.interface) else { return };
        if member.virtual_mac {
            for family in member.families() {
                let mac = virtual_mac(family, member.vrid);
                let macvlan = Macvlan { below: base, mac, family, up: wanted.hold };
                let name = macvlan_name(family, member.vrid, base);
                self.macvlans.entry(name).or_insert(macvlan).up |= wanted.hold;
                if family == Family::V4 {
                    self.quiet.insert(base);
                }
            }
        }
        for address in &member.addresses {
            // One that was left behind may be on the interface itself.
            let places = [place(mirror, names, member, address).map(|place| place.index), Some(base)];
            let own = address.interface.is_some() || !member.virtual_mac;
            for index in places.into_iter().take(if own { 1 } else { 2 }).flatten() {
                let only_owners = self.configured.entry((index, address.prefix.address)).or_insert(true);
                *only_owners &= wanted.owner;
            }
        }
    }

    fn hold(&mut self, mirror: &Mirror, names: &Names, (group, wanted): (Group, &Wanted), member: &Member) {
        for address in &member.addresses {
            let Some(place) = place(mirror, names, member, address) else { continue };
            let Prefix { address: ip, length } = address.prefix;
            let at = Address { index: place.index, address: ip, length };
            let hosts_own = wanted.owner && mirror.present_as(place.index, ip).any(|present| !present.ours);
            let attributes = Attributes {
                label: address.label.clone(),
                scope: scope(address.scope),
                no_prefix_route: place.index != place.below && self.has_network(mirror, place.below, at),
            };
            let announce = place.mac.map(|mac| (place.below, mac));
            self.addresses.entry(at).or_insert(Virtual { group, attributes, hosts_own, announce });
        }
        self.routes.extend(member.routes.iter().filter_map(|route| as_route(names, route)));
        let families: Vec<Family> = member.families().collect();
        self.rules.extend(member.rules.iter().flat_map(|rule| as_rules(&families, rule)));
    }

    /// Whether the host itself has an address of the same network on the interface.
    fn has_network(&self, mirror: &Mirror, index: u32, at: Address) -> bool {
        mirror.on(index).into_iter().any(|present| {
            present.at.length == at.length
                && network(present.at.address, at.length) == network(at.address, at.length)
                && !self.is_virtual(present)
        })
    }
}

/// Where an address is added, and announced.
struct Place {
    index: u32,
    below: u32,
    mac: Option<[u8; 6]>,
}

/// `None` as long as there is no such interface.
fn place(mirror: &Mirror, names: &Names, member: &Member, address: &VirtualAddress) -> Option<Place> {
    let name = address.interface.as_ref().unwrap_or(&member.interface);
    let base = names.index(name)?;
    if member.virtual_mac && address.interface.is_none() {
        let family = Family::of(address.prefix.address);
        let macvlan = mirror.by_name(&macvlan_name(family, member.vrid, base))?;
        let mac = virtual_mac(family, member.vrid);
        return Some(Place { index: macvlan.index, below: base, mac: Some(mac) });
    }
    Some(Place { index: base, below: base, mac: mirror.by_index(base)?.mac })
}

/// Of ours, whether it was added with something else. The kernel renames the first part of a label with the interface; IPv6
/// has neither labels nor scopes of its own choice.
fn differs(present: &Present, attributes: &Attributes) -> bool {
    let suffix =
        |label: &Option<String>| label.as_ref().and_then(|label| Some(label.split_once(':')?.1.to_owned()));
    present.ours
        && present.at.address.is_ipv4()
        && (suffix(&present.label) != suffix(&attributes.label) || present.scope != attributes.scope)
}

/// rtnetlink(7).
fn scope(scope: Scope) -> u8 {
    match scope {
        Scope::Global => 0,
        Scope::Site => 200,
        Scope::Link => 253,
        Scope::Host => 254,
    }
}

/// `None` as long as there is no such interface.
fn as_route(names: &Names, route: &ModelRoute) -> Option<Route> {
    let index = match &route.interface {
        Some(name) => Some(names.index(name)?),
        None => None,
    };
    Some(Route {
        to: masked(route.to),
        via: route.via,
        index,
        source: route.source,
        metric: route.metric.unwrap_or_else(|| default_metric(route.to.address)),
        table: route.table,
    })
}

/// For the family of its networks; one without any is for each that the instance has addresses of.
fn as_rules<'a>(families: &'a [Family], rule: &'a ModelRule) -> impl Iterator<Item = Rule> + 'a {
    let network = rule.from.or(rule.to);
    let fits = move |family: &&Family| network.is_none_or(|network| Family::of(network.address) == **family);
    let both = [Family::V4, Family::V6];
    let families: Vec<Family> =
        if network.is_some() { both.iter() } else { families.iter() }.filter(fits).copied().collect();
    families.into_iter().map(|family| Rule {
        v6: family == Family::V6,
        from: rule.from.map(masked),
        to: rule.to.map(masked),
        table: rule.table,
        priority: rule.priority,
    })
}

fn masked(prefix: Prefix) -> (IpAddr, u8) {
    (network(prefix.address, prefix.length), prefix.length)
}
