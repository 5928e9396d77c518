//! What the kernel has of what matters here, from what it says.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage as Message;

use crate::net::address::{self, Address, Present};
use crate::net::link::{self, Link};
use crate::net::route::{self, Route};
use crate::net::rule::{self, Rule};
use crate::vrrp::thing::ArpSetting;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mirror {
    links: BTreeMap<u32, Link>,
    by_name: BTreeMap<String, u32>,
    addresses: BTreeMap<(u32, IpAddr, u8), Numbered>,
    /// Only what is marked as Evenkeel's.
    pub(super) routes: BTreeSet<Route>,
    pub(super) rules: BTreeSet<Rule>,
    /// Of interfaces that carry virtual MAC addresses.
    pub(super) arp: BTreeMap<(u32, ArpSetting), i32>,
    /// Macvlan interfaces with virtual MAC addresses that have other settings than they should.
    pub(super) astray: BTreeSet<String>,
    /// Interfaces that were down and are up, until somebody takes note.
    pub(super) returned: BTreeSet<u32>,
    next: u64,
}

/// An address and when it was first heard of: the kernel lists them in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Numbered {
    number: u64,
    present: Present,
}

impl Mirror {
    pub(super) fn of(messages: &[Message]) -> Self {
        let mut mirror = Self::default();
        for message in messages {
            mirror.take(message);
        }
        mirror
    }

    /// Takes from the one before what only a comparison tells.
    pub(super) fn follow(&mut self, before: &Self) {
        let was_down = |link: &&Link| before.by_index(link.index).is_some_and(|old| !old.up);
        let returned = self.links.values().filter(|link| link.up).filter(was_down).map(|link| link.index);
        self.returned = returned.chain(before.returned.iter().copied()).collect();
    }

    /// Whether the message says anything new that somebody else did.
    pub(super) fn take(&mut self, message: &Message) -> bool {
        match message {
            Message::NewLink(message) => self.link(link::parse(message)),
            Message::DelLink(message) => self.link_gone(message.header.index),
            Message::NewAddress(message) => {
                address::parse(message).is_some_and(|present| self.address(present))
            }
            Message::DelAddress(message) => {
                address::parse(message).is_some_and(|present| self.address_gone(present.at))
            }
            Message::NewRoute(message) => route::parse(message).is_some_and(|route| self.route(route)),
            Message::DelRoute(message) => {
                route::parse(message).is_some_and(|route| self.routes.remove(&route))
            }
            Message::NewRule(message) => rule::parse(message).is_some_and(|rule| self.rules.insert(rule)),
            Message::DelRule(message) => rule::parse(message).is_some_and(|rule| self.rules.remove(&rule)),
            _ => false,
        }
    }

    fn link(&mut self, link: Link) -> bool {
        // What a bridge says of its ports comes as a link too, without a name.
        if link.name.is_empty() || self.links.get(&link.index) == Some(&link) {
            return false;
        }
        if let Some(old) = self.links.insert(link.index, link.clone()) {
            if self.by_name.get(&old.name) == Some(&link.index) {
                self.by_name.remove(&old.name);
            }
            if link.up && !old.up {
                self.returned.insert(link.index);
            }
        }
        self.by_name.insert(link.name, link.index);
        true
    }

    fn link_gone(&mut self, index: u32) -> bool {
        let Some(link) = self.links.remove(&index) else { return false };
        if self.by_name.get(&link.name) == Some(&index) {
            self.by_name.remove(&link.name);
        }
        self.addresses.retain(|(at, _, _), _| *at != index);
        true
    }

    fn route(&mut self, route: Route) -> bool {
        // What was added here without an interface, and the kernel has chosen one.
        let added = self.routes.iter().find(|known| **known != route && route.is(known)).cloned();
        if let Some(added) = &added {
            self.routes.remove(added);
        }
        self.routes.insert(route) && added.is_none()
    }

    pub(super) fn address(&mut self, present: Present) -> bool {
        let Address { index, address, length } = present.at;
        let known = self.addresses.get_mut(&(index, address, length));
        if let Some(known) = known {
            let both_ours = known.present.ours && present.ours;
            let old = std::mem::replace(&mut known.present, present);
            return !both_ours && old != known.present;
        }
        self.next += 1;
        self.addresses.insert((index, address, length), Numbered { number: self.next, present });
        true
    }

    pub(super) fn address_gone(&mut self, at: Address) -> bool {
        self.addresses.remove(&(at.index, at.address, at.length)).is_some()
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    pub(super) fn by_index(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.get(self.by_name.get(name)?)
    }

    pub(super) fn present(&self, at: Address) -> Option<&Present> {
        self.addresses.get(&(at.index, at.address, at.length)).map(|numbered| &numbered.present)
    }

    /// The address on the interface, with networks of any length.
    pub(super) fn present_as(&self, index: u32, address: IpAddr) -> impl Iterator<Item = &Present> {
        let range = (index, address, 0)..=(index, address, u8::MAX);
        self.addresses.range(range).map(|(_, numbered)| &numbered.present)
    }

    /// Those that Evenkeel added, at any time.
    pub(super) fn ours(&self) -> impl Iterator<Item = &Present> {
        self.addresses.values().map(|numbered| &numbered.present).filter(|present| present.ours)
    }

    /// All of the interface, in the kernel's order.
    pub(super) fn on(&self, index: u32) -> Vec<&Present> {
        let first = IpAddr::from([0; 4]);
        let all = self.addresses.range((index, first, 0)..).take_while(|((at, _, _), _)| *at == index);
        let mut numbered: Vec<&Numbered> = all.map(|(_, numbered)| numbered).collect();
        numbered.sort_by_key(|numbered| numbered.number);
        numbered.into_iter().map(|numbered| &numbered.present).collect()
    }
}

/// Which interface a name means: the one that had it first, for as long as that lives, whatever it is called meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<String, u32>);

impl Names {
    pub(super) fn refresh<'a>(&mut self, mirror: &Mirror, names: impl Iterator<Item = &'a str>) {
        let mut found = BTreeMap::new();
        for name in names {
            if found.contains_key(name) {
                continue;
            }
            let bound = self.0.get(name).copied().filter(|index| mirror.by_index(*index).is_some());
            if let Some(index) = bound.or_else(|| Some(mirror.by_name(name)?.index)) {
                found.insert(name.to_owned(), index);
            }
        }
        self.0 = found;
    }

    pub(super) fn index(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }
}
