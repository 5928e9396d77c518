//! What to do so that the kernel has what it should.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fmt;

use super::mirror::Mirror;
use super::target::{Macvlan, Target};
use super::wanted::{Family, is_our_macvlan};
use crate::net::address::{Address, Attributes};
use crate::net::route::Route;
use crate::net::rule::Rule;
use crate::vrrp::thing::{ArpSetting, Thing};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Of a macvlan interface: it takes nothing that is sent to its MAC address.
    Lower(u32),
    Remove(Thing),
    MakeMacvlan(String, Macvlan),
    SetArp {
        index: u32,
        setting: ArpSetting,
        before: i32,
    },
    /// Has settings of a macvlan interface put right that somebody changed.
    SetUp(String, Family),
    Raise(u32),
    AddAddress(Address, Attributes),
    AddRoute(Route),
    AddRule(Rule),
}

impl Step {
    /// What must be undone after it.
    pub(super) fn thing(&self) -> Option<Thing> {
        match self {
            Self::MakeMacvlan(name, _) => Some(Thing::Macvlan(name.clone())),
            Self::SetArp { index, setting, before } => {
                Some(Thing::Arp { index: *index, setting: *setting, before: *before })
            }
            Self::AddAddress(address, _) => Some(Thing::Address(*address)),
            Self::AddRoute(route) => Some(Thing::Route(route.clone())),
            Self::AddRule(rule) => Some(Thing::Rule(rule.clone())),
            Self::Lower(_) | Self::Remove(_) | Self::SetUp(..) | Self::Raise(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lower(index) => write!(f, "take interface {index} down"),
            Self::Remove(thing) => write!(f, "remove {thing}"),
            Self::MakeMacvlan(name, macvlan) => write!(f, "make {name} on interface {}", macvlan.below),
            Self::SetArp { index, setting, .. } => write!(f, "set {} of interface {index}", setting.key()),
            Self::SetUp(name, _) => write!(f, "put the settings of {name} right"),
            Self::Raise(index) => write!(f, "bring interface {index} up"),
            Self::AddAddress(..) | Self::AddRoute(_) | Self::AddRule(_) => {
                write!(f, "add ")?;
                self.thing().map_or(Ok(()), |thing| thing.fmt(f))
            }
        }
    }
}

/// In the order to do them. `held` is what was done so far and not undone.
pub(super) fn plan(mirror: &Mirror, target: &Target, held: &BTreeSet<Thing>) -> Vec<Step> {
    let mut steps = Vec::new();
    let macvlans = target.macvlans.iter();
    let there = macvlans.filter_map(|(name, macvlan)| Some((macvlan, mirror.by_name(name)?)));
    let turned = there.filter(|(macvlan, link)| macvlan.up != link.raised);
    let (raise, lower): (Vec<_>, Vec<_>) = turned.partition(|(macvlan, _)| macvlan.up);
    steps.extend(removals(mirror, target, held).into_iter().map(Step::Remove));
    steps.extend(lower.into_iter().map(|(_, link)| Step::Lower(link.index)));
    let missing = target.macvlans.iter().filter(|(name, _)| mirror.by_name(name).is_none());
    steps.extend(missing.map(|(name, macvlan)| Step::MakeMacvlan(name.clone(), *macvlan)));
    let astray = target.macvlans.iter().filter(|(name, _)| mirror.astray.contains(*name));
    let astray = astray.filter(|(name, _)| mirror.by_name(name).is_some());
    steps.extend(astray.map(|(name, macvlan)| Step::SetUp(name.clone(), macvlan.family)));
    steps.extend(arp_settings(mirror, target, held));
    steps.extend(raise.into_iter().map(|(_, link)| Step::Raise(link.index)));
    let missing = target.addresses.iter().filter(|(at, _)| mirror.present(**at).is_none());
    steps.extend(
        missing
            .filter(|(_, address)| !address.hosts_own)
            .map(|(at, address)| Step::AddAddress(*at, address.attributes.clone())),
    );
    let missing = target.routes.iter().filter(|route| !mirror.routes.iter().any(|there| there.is(route)));
    steps.extend(missing.cloned().map(Step::AddRoute));
    steps.extend(target.rules.difference(&mirror.rules).cloned().map(Step::AddRule));
    steps
}

/// What there must be, and the guard must know of.
pub(super) fn wanted_things(target: &Target) -> BTreeSet<Thing> {
    let ours = target.addresses.iter().filter(|(_, address)| !address.hosts_own);
    let addresses = ours.map(|(at, _)| Thing::Address(*at));
    let macvlans = target.macvlans.keys().cloned().map(Thing::Macvlan);
    let routes = target.routes.iter().cloned().map(Thing::Route);
    let rules = target.rules.iter().cloned().map(Thing::Rule);
    addresses.chain(macvlans).chain(routes).chain(rules).collect()
}

/// What there must be and is there already, though it was not done here: it is taken over, to be undone as everything else.
pub(super) fn adopted(mirror: &Mirror, target: &Target, held: &BTreeSet<Thing>) -> Vec<Thing> {
    let addresses =
        target.addresses.iter().filter(|(at, address)| !address.hosts_own && mirror.present(**at).is_some());
    let macvlans = target.macvlans.keys().filter(|name| mirror.by_name(name).is_some());
    let routes = target.routes.iter().filter(|route| mirror.routes.iter().any(|there| there.is(route)));
    let things = addresses
        .map(|(at, _)| Thing::Address(*at))
        .chain(macvlans.cloned().map(Thing::Macvlan))
        .chain(routes.cloned().map(Thing::Route))
        .chain(target.rules.intersection(&mirror.rules).cloned().map(Thing::Rule));
    things.filter(|thing| !held.contains(thing)).collect()
}

/// What was done and is not wanted any more, what an earlier daemon left, and what somebody put where it must not be.
fn removals(mirror: &Mirror, target: &Target, held: &BTreeSet<Thing>) -> BTreeSet<Thing> {
    let wanted = wanted_things(target);
    let done = held.difference(&wanted).filter(|thing| match thing {
        Thing::Arp { index, .. } => !target.quiet.contains(index),
        // It became the host's own meanwhile.
        Thing::Address(at) => !target.addresses.contains_key(at),
        Thing::Macvlan(_) | Thing::Rule(_) | Thing::Route(_) => true,
    });
    let mut removals: BTreeSet<Thing> = done.cloned().collect();
    removals.extend(target.surplus(mirror).map(|present| Thing::Address(present.at)));
    // Also of an instance that the configuration has no more, or has and that did not register yet: it begins without any.
    let nobodys = mirror.ours().filter(|present| !target.addresses.contains_key(&present.at));
    removals.extend(nobodys.map(|present| Thing::Address(present.at)));
    let stale = mirror.links().filter(|link| {
        link.macvlan_on.is_some()
            && is_our_macvlan(&link.name, link.mac)
            && !target.macvlans.contains_key(&link.name)
    });
    removals.extend(stale.map(|link| Thing::Macvlan(link.name.clone())));
    let nobodys = mirror.routes.iter().filter(|route| !target.routes.iter().any(|wanted| route.is(wanted)));
    let leaves = |route: &Route| {
        removals.iter().any(|thing| matches!(thing, Thing::Route(leaving) if route.is(leaving)))
    };
    let routes: Vec<Thing> = nobodys.filter(|route| !leaves(route)).cloned().map(Thing::Route).collect();
    removals.extend(routes);
    removals.extend(mirror.rules.difference(&target.rules).cloned().map(Thing::Rule));
    removals
}

fn arp_settings(mirror: &Mirror, target: &Target, held: &BTreeSet<Thing>) -> Vec<Step> {
    let here = mirror.arp.iter().filter(|((index, _), _)| target.quiet.contains(index));
    let wrong = here.filter(|((_, setting), now)| !setting.will_do(**now));
    let before = |index, setting, now| {
        let told = held.iter().find_map(|thing| match thing {
            Thing::Arp { index: at, setting: of, before } if (*at, *of) == (index, setting) => Some(*before),
            _ => None,
        });
        told.unwrap_or(now)
    };
    wrong
        .map(|(&(index, setting), &now)| Step::SetArp { index, setting, before: before(index, setting, now) })
        .collect()
}
