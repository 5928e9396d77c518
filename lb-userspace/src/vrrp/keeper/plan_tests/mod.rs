mod properties;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::mirror::{Mirror, Names};
use super::plan::{Step, adopted, plan, wanted_things};
use super::seen::{Primaries, seen};
use super::target::Target;
use super::wanted::{Family, SeenChannel};
use super::wanted::{Usable, Wanted, macvlan_name, virtual_mac};
use crate::config::model::{Instance, Prefix, Priority, Route as ModelRoute, Rule as ModelRule, Scope, Vrid};
use crate::net::address::{Address, Present};
use crate::net::{address, link, route, rule};
use crate::vrrp::thing::{ArpSetting, Thing};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;

pub(super) const BASE: u32 = 2;
pub(super) const MACVLAN: u32 = 7;
const VIRTUAL: &str = "192.0.2.10";
const OTHER: &str = "192.0.2.11";
const PRIMARY: &str = "192.0.2.1";

fn vrid() -> Vrid {
    Vrid::new(51).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(index: u32, text: &str, length: u8) -> Address {
    Address { index, address: ip(text), length }
}

fn present(at: Address, ours: bool) -> Present {
    Present { at, secondary: false, ours, tentative: false, label: None, scope: 0 }
}

fn prefix(text: &str, length: u8) -> Prefix {
    Prefix { address: ip(text), length }
}

pub(super) fn instance(addresses: &[&str]) -> Instance {
    let length = |text: &str| if ip(text).is_ipv4() { 24 } else { 64 };
    let addresses = addresses.iter().map(|text| prefix(text, length(text)).into()).collect();
    Instance { addresses, ..Instance::new("outside", "eth0", vrid()) }
}

pub(super) fn wanted(hold: bool, instance: &Instance) -> Wanted {
    Wanted { hold, ..Wanted::of([instance]) }
}

/// A link that is up, as the kernel tells of it.
pub(super) fn link_message(index: u32, name: &str) -> Message {
    let Message::NewLink(mut message) = link::make_macvlan(name, BASE, [2, 0, 0, 0, 0, 1]).message else {
        unreachable!()
    };
    message.header.index = index;
    message.header.flags =
        rtnetlink::packet_route::link::LinkFlags::Up | rtnetlink::packet_route::link::LinkFlags::Running;
    message.attributes.truncate(1);
    message.attributes.push(rtnetlink::packet_route::link::LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]));
    Message::NewLink(message)
}

pub(super) fn macvlan_message(index: u32, family: Family, up: bool) -> Message {
    let name = macvlan_name(family, vrid(), BASE);
    let Message::NewLink(mut message) = link::make_macvlan(&name, BASE, virtual_mac(family, vrid())).message
    else {
        unreachable!()
    };
    message.header.index = index;
    message.header.flags.set(rtnetlink::packet_route::link::LinkFlags::Up, up);
    Message::NewLink(message)
}

/// A host with an `eth0`.
pub(super) fn mirror(addresses: &[Present]) -> Mirror {
    let mut mirror = Mirror::of(&[link_message(BASE, "eth0")]);
    for present in addresses {
        mirror.address(present.clone());
    }
    mirror
}

pub(super) fn target(mirror: &Mirror, groups: &[Wanted]) -> (Names, Target) {
    let mut names = Names::default();
    names.refresh(mirror, groups.iter().flat_map(Wanted::interfaces));
    let numbered = groups.iter().enumerate().map(|(group, wanted)| (group as u64, wanted));
    let target = Target::new(mirror, &names, numbered);
    (names, target)
}

fn steps(mirror: &Mirror, groups: &[Wanted], held: &BTreeSet<Thing>) -> Vec<Step> {
    plan(mirror, &target(mirror, groups).1, held)
}

fn removed(steps: &[Step]) -> Vec<Thing> {
    let removed = steps.iter().filter_map(|step| match step {
        Step::Remove(thing) => Some(thing.clone()),
        _ => None,
    });
    removed.collect()
}

fn added(steps: &[Step]) -> Vec<Address> {
    let added = steps.iter().filter_map(|step| match step {
        Step::AddAddress(address, _) => Some(*address),
        _ => None,
    });
    added.collect()
}

#[test]
fn an_address_left_behind_is_removed_and_others_are_let_alone() {
    let (own, left) = (at(BASE, PRIMARY, 24), at(BASE, VIRTUAL, 24));
    let found = mirror(&[present(own, false), present(left, false), present(at(BASE, OTHER, 24), false)]);
    let none = BTreeSet::new();
    assert_eq!(
        removed(&steps(&found, &[wanted(false, &instance(&[VIRTUAL]))], &none)),
        [Thing::Address(left)]
    );
    assert_eq!(steps(&found, &[wanted(true, &instance(&[VIRTUAL]))], &none), [], "it is there");
    let held = [wanted(true, &instance(&[VIRTUAL]))];
    assert_eq!(adopted(&found, &target(&found, &held).1, &none), [Thing::Address(left)]);
    assert_eq!(steps(&found, &[], &none), [], "of no instance");
}

#[test]
fn an_address_marked_as_ours_that_no_instance_has_any_more_is_removed() {
    let (left, held) = (at(BASE, OTHER, 24), at(BASE, VIRTUAL, 24));
    let found = mirror(&[present(at(BASE, PRIMARY, 24), false), present(left, true), present(held, true)]);
    let groups = [wanted(true, &instance(&[VIRTUAL]))];
    assert_eq!(steps(&found, &groups, &BTreeSet::new()), [Step::Remove(Thing::Address(left))]);
}

#[test]
fn what_was_held_and_is_configured_no_more_is_removed() {
    let found = mirror(&[present(at(BASE, VIRTUAL, 24), true), present(at(BASE, OTHER, 24), true)]);
    let held = [VIRTUAL, OTHER].map(|text| Thing::Address(at(BASE, text, 24)));
    let held = BTreeSet::from(held);
    let steps = steps(&found, &[wanted(true, &instance(&[VIRTUAL]))], &held);
    assert_eq!(steps, [Step::Remove(Thing::Address(at(BASE, OTHER, 24)))]);
}

#[test]
fn a_changed_length_replaces_the_address() {
    let found = mirror(&[present(at(BASE, VIRTUAL, 32), true)]);
    let steps = steps(&found, &[wanted(true, &instance(&[VIRTUAL]))], &BTreeSet::new());
    assert_eq!(removed(&steps), [Thing::Address(at(BASE, VIRTUAL, 32))]);
    assert_eq!(added(&steps), [at(BASE, VIRTUAL, 24)]);
}

#[test]
fn an_address_that_another_group_holds_stays() {
    let found = mirror(&[present(at(BASE, VIRTUAL, 24), true)]);
    let groups = [wanted(false, &instance(&[VIRTUAL])), wanted(true, &instance(&[VIRTUAL]))];
    assert_eq!(steps(&found, &groups, &BTreeSet::new()), []);
    let held = BTreeSet::from([Thing::Address(at(BASE, VIRTUAL, 24))]);
    assert_eq!(removed(&steps(&found, &groups[..1], &held)).len(), 1, "the last to let go");
}

#[test]
fn an_owner_never_loses_the_address_the_host_had_before() {
    let owner = Instance { priority: Priority::OWNER, ..instance(&[VIRTUAL]) };
    let own = mirror(&[present(at(BASE, VIRTUAL, 24), false)]);
    let none = BTreeSet::new();
    for hold in [false, true] {
        assert_eq!(steps(&own, &[wanted(hold, &owner)], &none), []);
        assert_eq!(wanted_things(&target(&own, &[wanted(hold, &owner)]).1), none, "nothing for the guard");
    }
    assert_eq!(added(&steps(&mirror(&[]), &[wanted(true, &owner)], &none)).len(), 1);
    let ours = mirror(&[present(at(BASE, VIRTUAL, 24), true)]);
    assert_eq!(removed(&steps(&ours, &[wanted(false, &owner)], &none)).len(), 1);
}

fn usable(mirror: &Mirror, groups: &[Wanted]) -> Vec<Usable> {
    let (names, target) = target(mirror, groups);
    let channels = seen(&mut Primaries::new(mirror, &target), &names, &groups[0]).channels;
    channels.into_iter().map(|SeenChannel { interface, .. }| interface).collect()
}

#[test]
fn a_virtual_address_is_never_the_one_to_send_from() {
    let groups = [wanted(true, &instance(&[VIRTUAL])), wanted(true, &instance(&[OTHER]))];
    let second = Present { secondary: true, ..present(at(BASE, PRIMARY, 24), false) };
    let virtuals = [present(at(BASE, VIRTUAL, 24), true), present(at(BASE, OTHER, 24), false)];
    assert_eq!(usable(&mirror(&virtuals), &groups), [Usable::NoAddress]);
    let found = mirror(&[&virtuals[..], &[second]].concat());
    assert_eq!(usable(&found, &groups), [Usable::Up { primary: ip(PRIMARY) }]);
    let mut down = mirror(&[]);
    down.take(&macvlan_message(BASE, Family::V4, false));
    assert_eq!(usable(&Mirror::default(), &groups), [Usable::Missing]);
    let owner = Instance { priority: Priority::OWNER, ..instance(&[VIRTUAL]) };
    let own = mirror(&[present(at(BASE, VIRTUAL, 24), false)]);
    assert_eq!(usable(&own, &[wanted(true, &owner)]), [Usable::Up { primary: ip(VIRTUAL) }]);
}

#[test]
fn ipv6_is_sent_from_the_link_local_address_once_it_is_known_to_be_free() {
    let groups = [wanted(true, &instance(&["2001:db8::10"]))];
    let global = present(at(BASE, "2001:db8::1", 64), false);
    let local = present(at(BASE, "fe80::1", 64), false);
    let tentative = Present { tentative: true, ..local.clone() };
    assert_eq!(usable(&mirror(&[global.clone(), tentative]), &groups), [Usable::NoAddress]);
    assert_eq!(usable(&mirror(&[global, local]), &groups), [Usable::Up { primary: ip("fe80::1") }]);
}

#[test]
fn a_virtual_mac_is_made_at_the_start_up_only_while_held_and_carries_the_addresses() {
    let mac = |hold| wanted(hold, &Instance { virtual_mac: true, ..instance(&[VIRTUAL]) });
    let mut host = mirror(&[present(at(BASE, PRIMARY, 24), false)]);
    host.arp = ArpSetting::ALL.map(|setting| ((BASE, setting), 0)).into();
    let none = BTreeSet::new();
    let first = steps(&host, &[mac(false)], &none);
    assert!(
        matches!(&first[..], [Step::MakeMacvlan(..), Step::SetArp { .. }, Step::SetArp { .. }]),
        "{first:?}"
    );

    host.take(&macvlan_message(MACVLAN, Family::V4, false));
    host.arp = ArpSetting::ALL.map(|setting| ((BASE, setting), setting.value())).into();
    let held: BTreeSet<Thing> = first.iter().filter_map(Step::thing).collect();
    assert_eq!(steps(&host, &[mac(false)], &held), []);
    host.astray.insert("vrrp4.51.2".into());
    assert_eq!(steps(&host, &[mac(false)], &held), [Step::SetUp("vrrp4.51.2".into(), Family::V4)]);
    host.astray.clear();
    let taken = steps(&host, &[mac(true)], &held);
    let [Step::Raise(MACVLAN), Step::AddAddress(address, attributes)] = &taken[..] else {
        panic!("{taken:?}")
    };
    assert_eq!((*address, attributes.no_prefix_route), (at(MACVLAN, VIRTUAL, 24), true));

    host.take(&macvlan_message(MACVLAN, Family::V4, true));
    host.address(present(at(MACVLAN, VIRTUAL, 24), true));
    let all: BTreeSet<Thing> = held.iter().cloned().chain([Thing::Address(*address)]).collect();
    let released = steps(&host, &[mac(false)], &all);
    assert_eq!(released, [Step::Remove(Thing::Address(*address)), Step::Lower(MACVLAN)]);
    let name = Thing::Macvlan("vrrp4.51.2".into());
    let left = ArpSetting::ALL.map(|setting| Thing::Arp { index: BASE, setting, before: 0 });
    assert_eq!(
        removed(&steps(&host, &[], &all)),
        [&[Thing::Address(*address), name.clone()], &left[..]].concat()
    );
    let left = [Thing::Address(*address), name];
    assert_eq!(removed(&steps(&host, &[], &none)), left, "left behind by a crash");
}

#[test]
fn an_address_may_have_its_own_interface_label_and_scope() {
    let mut host = mirror(&[]);
    host.take(&link_message(3, "eth1"));
    let mut instance = Instance { virtual_mac: true, ..instance(&[VIRTUAL]) };
    instance.addresses[0].interface = Some("eth1".into());
    instance.addresses[0].label = Some("eth1:vip".into());
    instance.addresses[0].scope = Scope::Link;
    let held = steps(&host, &[wanted(true, &instance)], &BTreeSet::new());
    let add = held.iter().find_map(|step| match step {
        Step::AddAddress(address, attributes) => Some((*address, attributes.clone())),
        _ => None,
    });
    let (address, attributes) = add.unwrap();
    assert_eq!(address, at(3, VIRTUAL, 24));
    assert_eq!((attributes.label.as_deref(), attributes.scope), (Some("eth1:vip"), 253));
    let mut there = Present { label: Some("lan0:vip".into()), scope: 253, ..present(address, true) };
    host.address(there.clone());
    let held = BTreeSet::from([Thing::Address(address)]);
    let removals = |host: &Mirror| removed(&steps(host, &[wanted(true, &instance)], &held));
    assert_eq!(removals(&host), [], "the kernel renames labels");
    there.label = Some("eth1".into());
    host.address(there);
    assert_eq!(removals(&host), [Thing::Address(address)], "to be added anew");
}

#[test]
fn what_is_held_on_an_interface_that_comes_back_is_to_be_announced_again() {
    let mut host = mirror(&[]);
    let other = link_message(3, "eth1");
    let Message::NewLink(mut down) = other.clone() else { unreachable!() };
    down.header.flags = rtnetlink::packet_route::link::LinkFlags::Up;
    let mut instance = instance(&[VIRTUAL, OTHER]);
    instance.addresses[0].interface = Some("eth1".into());
    let announced = |host: &Mirror| {
        let target = target(host, &[wanted(true, &instance)]).1;
        target.announced_by(&host.returned).collect::<Vec<_>>()
    };
    host.take(&other);
    assert_eq!(announced(&host), [], "it was not away");
    host.take(&Message::NewLink(down.clone()));
    let away = host.clone();
    assert_eq!(announced(&away), []);
    host.take(&other);
    assert_eq!(announced(&host), [at(3, VIRTUAL, 24)]);
    let mut read = Mirror::of(&[link_message(BASE, "eth0"), other]);
    read.follow(&away);
    assert_eq!(announced(&read), [at(3, VIRTUAL, 24)], "though nothing was told");
    let mut again = Mirror::of(&[link_message(BASE, "eth0"), Message::NewLink(down)]);
    again.follow(&read);
    assert_eq!(announced(&again), [at(3, VIRTUAL, 24)], "until it is taken note of");
}

#[test]
fn routes_and_rules_come_with_the_addresses_and_go_and_those_of_others_stay() {
    let mut instance = instance(&[VIRTUAL]);
    instance.routes.push(ModelRoute {
        to: prefix("198.51.100.77", 24),
        via: Some(ip("192.0.2.254")),
        interface: None,
        source: Some(ip(VIRTUAL)),
        metric: None,
        table: 254,
    });
    instance.rules.push(ModelRule { from: Some(prefix(VIRTUAL, 32)), to: None, table: 100, priority: 9 });
    let mut host = mirror(&[]);
    let none = BTreeSet::new();
    let taken = steps(&host, &[wanted(true, &instance)], &none);
    let [Step::AddAddress(..), Step::AddRoute(added), Step::AddRule(_)] = &taken[..] else {
        panic!("{taken:?}")
    };
    assert_eq!(added.to, (ip("198.51.100.0"), 24));
    // The kernel says by which interface.
    host.address(present(at(BASE, VIRTUAL, 24), true));
    host.routes.insert(added.clone());
    let there = route::Route { index: Some(BASE), ..added.clone() };
    host.take(&route::add(&there).message);
    let Step::AddRule(added) = &taken[2] else { panic!() };
    host.take(&rule::add(added).message);
    assert_eq!(steps(&host, &[wanted(true, &instance)], &none), []);
    assert_eq!(removed(&steps(&host, &[wanted(false, &instance)], &none)).len(), 3);
    let held: BTreeSet<Thing> = taken.iter().filter_map(Step::thing).collect();
    let released = removed(&steps(&host, &[wanted(false, &instance)], &held));
    assert_eq!(BTreeSet::from_iter(released.clone()), held);
    assert_eq!(released.len(), 3, "each once");
}

#[test]
fn an_interface_is_followed_when_it_is_renamed_and_by_name_when_it_is_made_anew() {
    let mut host = mirror(&[]);
    let mut names = Names::default();
    names.refresh(&host, ["eth0"].into_iter());
    host.take(&link_message(BASE, "lan0"));
    host.take(&link_message(3, "eth0"));
    names.refresh(&host, ["eth0"].into_iter());
    assert_eq!(names.index("eth0"), Some(BASE), "another has its name now");
    let Message::NewLink(gone) = link_message(BASE, "lan0") else { unreachable!() };
    host.take(&Message::DelLink(gone));
    names.refresh(&host, ["eth0"].into_iter());
    assert_eq!(names.index("eth0"), Some(3));
}
