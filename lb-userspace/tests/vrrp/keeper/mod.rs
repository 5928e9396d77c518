//! What a keeper does to a host: addresses, routes, rules and virtual MAC addresses that come, stay and go.

mod many;

use std::time::{Duration, Instant};

use evenkeel::config::model::{Instance, Prefix, Route, Rule, Scope, VirtualAddress, Vrid};
use evenkeel::vrrp::Keeper;
use evenkeel::vrrp::keeper::{Place, Registration, Usable, Wanted};
use evenkeel::vrrp::wire::Family;

use crate::lab::{Host, Lab, eventually, runtime, start_keeper};

const V6: &str = "2001:db8::10";
const MAC_V4: &str = "00:00:5e:00:01:33";
const MAC_V6: &str = "00:00:5e:00:02:33";
/// For thousands of addresses on a machine under load.
const MANY_LIMIT: Duration = Duration::from_secs(120);

fn address(text: &str, length: u8) -> VirtualAddress {
    Prefix { address: text.parse().unwrap(), length }.into()
}

fn instance(virtual_mac: bool, addresses: Vec<VirtualAddress>) -> Instance {
    Instance { virtual_mac, addresses, ..Instance::new("outside", "eth0", Vrid::new(51).unwrap()) }
}

/// One of each kind of thing, with a virtual MAC address.
pub(crate) fn everything() -> Instance {
    let labelled = VirtualAddress {
        interface: Some("eth0".to_owned()),
        label: Some("eth0:vip".to_owned()),
        scope: Scope::Link,
        ..address("198.51.100.7", 32)
    };
    let mut instance = instance(true, vec![address("203.0.113.10", 24), address(V6, 64), labelled]);
    let prefix = |text: &str, length| Prefix { address: text.parse().unwrap(), length };
    instance.routes = vec![
        Route {
            to: prefix("192.0.2.0", 24),
            via: Some("203.0.113.254".parse().unwrap()),
            interface: None,
            source: Some("203.0.113.10".parse().unwrap()),
            metric: Some(7),
            table: 100,
        },
        Route {
            to: prefix("2001:db8:7::", 48),
            via: None,
            interface: Some("eth0".to_owned()),
            source: None,
            metric: None,
            table: 254,
        },
    ];
    instance.rules = vec![
        Rule { from: Some(prefix("203.0.113.10", 32)), to: None, table: 100, priority: 1000 },
        Rule { from: None, to: Some(prefix("2001:db8:7::", 48)), table: 100_000, priority: 1001 },
    ];
    instance
}

fn register(keeper: &Keeper, instance: &Instance) -> Registration {
    keeper.register(instance.name.clone(), Wanted::of([instance]))
}

pub(crate) fn hold(keeper: &Keeper, instance: &Instance) -> Registration {
    let registration = register(keeper, instance);
    registration.wanted.send_modify(|wanted| wanted.hold = true);
    registration
}

fn set_hold(registration: &Registration, hold: bool) {
    registration.wanted.send_modify(|wanted| wanted.hold = hold);
}

/// A line of `ip` by which each kind of thing is known; a command that shows it.
fn kinds() -> [(&'static str, &'static [&'static str]); 7] {
    [
        ("inet 203.0.113.10/24 scope global proto 0x70 noprefixroute vrrp4", &["ip", "-4", "address"]),
        ("inet 198.51.100.7/32 scope link proto 0x70 eth0:vip", &["ip", "-4", "address"]),
        ("inet6 2001:db8::10/64 scope global deprecated nodad proto 0x70", &["ip", "-6", "address"]),
        (
            "192.0.2.0/24 via 203.0.113.254 dev eth0 proto 112 src 203.0.113.10 metric 7",
            &["ip", "route", "show", "table", "100"],
        ),
        ("2001:db8:7::/48 dev eth0 proto 112 metric 1024", &["ip", "-6", "route"]),
        ("1000:\tfrom 203.0.113.10 lookup 100 proto 112", &["ip", "-N", "rule"]),
        ("1001:\tfrom all to 2001:db8:7::/48 lookup 100000 proto 112", &["ip", "-6", "-N", "rule"]),
    ]
}

fn missing(host: &Host) -> Vec<(&'static str, String)> {
    let shown = kinds().map(|(line, command)| (line, host.output(command)));
    shown.into_iter().filter(|(line, shown)| !has(shown, line)).collect()
}

/// Word by word: versions of `ip` differ in their spaces and in what they say besides.
fn has(shown: &str, line: &str) -> bool {
    let mut words = line.split_whitespace().filter(|word| !["proto", "0x70", "112"].contains(word));
    let wanted: Vec<&str> = words.by_ref().collect();
    shown.lines().any(|line| wanted.iter().all(|word| line.contains(word)))
}

fn assert_all_there(host: &Host) {
    let deadline = Instant::now() + crate::lab::LIMIT;
    loop {
        let missing = missing(host);
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "missing: {missing:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn assert_all_gone(host: &Host) {
    eventually("everything is gone", || missing(host).len() == kinds().len());
}

/// `arp_ignore` and `arp_announce`.
fn arp_settings(host: &Host) -> String {
    let settings = ["ignore", "announce"].map(|key| format!("/proc/sys/net/ipv4/conf/eth0/arp_{key}"));
    let shown = host.output(&["cat", &settings[0], &settings[1]]);
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn wait_released(registration: Registration) {
    let Registration { wanted, released, .. } = registration;
    drop(wanted);
    runtime().block_on(async { tokio::time::timeout(MANY_LIMIT, released.wait()).await }).unwrap();
}

fn wait_many(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + MANY_LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {MANY_LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn each_kind_of_thing_comes_when_it_is_held_goes_when_not_and_comes_back_when_somebody_deletes_it() {
    let lab = Lab::new(1);
    let host = &lab.hosts[0];
    let keeper = host.run(start_keeper);
    let registration = register(&keeper, &everything());
    eventually("the virtual MAC is made", || host.output(&["ip", "link"]).contains("vrrp4.51."));
    assert!(host.output(&["ip", "link"]).contains(MAC_V6));
    assert_all_gone(host);
    eventually("ARP is left to it", || arp_settings(host) == "1 2");
    for _ in 0..2 {
        set_hold(&registration, true);
        assert_all_there(host);
        let name = |family: &str| {
            let links = host.output(&["ip", "-o", "link"]);
            let line = links.lines().find(|line| line.contains(family)).unwrap().to_owned();
            line.split([' ', '@']).nth(1).unwrap().to_owned()
        };
        host.ip(&["address", "del", "203.0.113.10/24", "dev", &name("vrrp4.")]);
        host.ip(&["address", "del", "198.51.100.7/32", "dev", "eth0"]);
        host.ip(&["address", "del", "2001:db8::10/64", "dev", &name("vrrp6.")]);
        assert_all_there(host);
        host.ip(&["route", "flush", "table", "100"]);
        host.ip(&["-6", "route", "del", "2001:db8:7::/48"]);
        host.ip(&["rule", "del", "priority", "1000"]);
        host.ip(&["-6", "rule", "del", "priority", "1001"]);
        assert_all_there(host);
        host.ip(&["link", "del", &name("vrrp4.")]);
        host.ip(&["link", "set", &name("vrrp6."), "down"]);
        assert_all_there(host);
        set_hold(&registration, false);
        assert_all_gone(host);
    }
    set_hold(&registration, true);
    assert_all_there(host);
    wait_released(registration);
    assert_eq!(missing(host).len(), kinds().len());
    assert!(!host.output(&["ip", "link"]).contains("vrrp"), "the virtual MACs are gone");
    assert_eq!(arp_settings(host), "0 0", "put back");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn settings_of_a_virtual_mac_that_somebody_changes_are_put_right() {
    let lab = Lab::new(1);
    let host = &lab.hosts[0];
    let keeper = host.run(start_keeper);
    let _registration = hold(&keeper, &everything());
    assert_all_there(host);
    let link = |family: &str| {
        let links = host.output(&["ip", "-o", "link"]);
        let line = links.lines().find(|line| line.contains(family)).unwrap().to_owned();
        line.split([' ', '@']).nth(1).unwrap().to_owned()
    };
    let filter = format!("/proc/sys/net/ipv4/conf/{}/rp_filter", link("vrrp4."));
    let made = format!("/proc/sys/net/ipv6/conf/{}/addr_gen_mode", link("vrrp6."));
    let values = || host.output(&["cat", &filter, &made]).split_whitespace().collect::<String>();
    assert_eq!(values(), "01");
    host.output(&["sh", "-c", &format!("echo 1 > {filter}; echo 0 > {made}")]);
    assert_eq!(values(), "10");
    wait_many(|| values() == "01");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_interface_is_followed_when_renamed_and_found_again_when_made_anew() {
    let lab = Lab::new(1);
    let host = &lab.hosts[0];
    let keeper = host.run(start_keeper);
    let mut plain = everything();
    plain.virtual_mac = false;
    let registration = hold(&keeper, &plain);
    let there = |interface: &str| {
        let shown = host.output(&["ip", "address", "show", "dev", interface]);
        ["203.0.113.10/24", "198.51.100.7/32", V6].iter().all(|address| shown.contains(address))
    };
    eventually("the addresses are there", || there("eth0"));
    host.ip(&["link", "set", "eth0", "name", "lan0"]);
    host.ip(&["address", "flush", "dev", "lan0", "scope", "link"]);
    host.ip(&["address", "del", "203.0.113.10/24", "dev", "lan0"]);
    eventually("the renamed interface is followed", || there("lan0"));
    let place = |seen: &Option<evenkeel::vrrp::keeper::Seen>| {
        seen.as_ref().and_then(|seen| seen.channels[0].place).map(|place: Place| place.index)
    };
    let index = place(&registration.seen.borrow());
    host.ip(&["link", "del", "lan0"]);
    eventually("it is seen to be missing", || {
        let seen = registration.seen.borrow();
        seen.as_ref().is_some_and(|seen| seen.channels[0].interface == Usable::Missing)
    });
    lab.plug_in(0);
    eventually("the new interface has them", || there("eth0"));
    assert_ne!(place(&registration.seen.borrow()), index);
    wait_released(registration);
    assert!(!there("eth0"));
    assert!(host.holds(host.address), "the host's own");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_keeper_leaves_nothing_behind() {
    let lab = Lab::new(1);
    let host = &lab.hosts[0];
    let node = host.start_role("keeper");
    assert_all_there(host);
    assert_eq!(arp_settings(host), "1 2");
    node.kill();
    assert_all_gone(host);
    eventually("the virtual MACs are gone", || !host.output(&["ip", "link"]).contains("vrrp"));
    eventually("the ARP settings are put back", || arp_settings(host) == "0 0");
    assert!(host.holds(host.address), "the host's own");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_a_crash_left_is_cleaned_at_the_start_and_what_is_not_ours_stays() {
    let lab = Lab::new(1);
    let host = &lab.hosts[0];
    let macvlan = |name: &str, mac: &str| {
        host.ip(&[
            "link", "add", "link", "eth0", "name", name, "address", mac, "type", "macvlan", "mode", "bridge",
        ]);
    };
    macvlan("vrrp4.77.2", "00:00:5e:00:01:4d");
    macvlan("vrrp.78", "00:00:5e:00:01:4e");
    host.ip(&["address", "add", "203.0.113.10/24", "dev", "eth0"]);
    host.ip(&["address", "add", "203.0.113.99/24", "dev", "eth0"]);
    host.ip(&["route", "add", "192.0.2.0/24", "via", "203.0.113.254", "proto", "112"]);
    host.ip(&["route", "add", "192.0.3.0/24", "via", "203.0.113.254"]);
    host.ip(&["rule", "add", "priority", "1000", "table", "100", "protocol", "112"]);
    host.ip(&["rule", "add", "priority", "1002", "table", "100"]);
    let keeper = host.run(start_keeper);
    let _registration = register(&keeper, &instance(false, vec![address("203.0.113.10", 24)]));
    let shown = || ["link", "address", "route", "rule"].map(|what| host.output(&["ip", what])).concat();
    eventually("what was left is gone", || {
        let shown = shown();
        ["vrrp4.77.2", "203.0.113.10/24", "192.0.2.0", "1000:"].iter().all(|left| !shown.contains(left))
    });
    let shown = shown();
    assert!(["vrrp.78", "203.0.113.99/24", "192.0.3.0", "1002:"].iter().all(|other| shown.contains(other)));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn neighbours_find_held_addresses_at_the_virtual_mac_and_released_ones_nowhere() {
    let lab = Lab::new(2);
    let (host, peer) = (&lab.hosts[0], &lab.hosts[1]);
    peer.ip(&["address", "add", "2001:db8::2/64", "dev", "eth0", "nodad"]);
    host.ip(&["address", "add", "2001:db8::1/64", "dev", "eth0", "nodad"]);
    let keeper = host.run(start_keeper);
    let registration = register(&keeper, &instance(true, vec![address("203.0.113.10", 24), address(V6, 64)]));
    let answers = |address: &str| {
        let pinged = peer.output(&["ping", "-c", "1", "-W", "1", address]);
        pinged.contains(" 0% packet loss")
    };
    let neighbour = |address: &str| peer.output(&["ip", "neigh", "show", address]);
    for _ in 0..2 {
        set_hold(&registration, true);
        for (address, mac) in [("203.0.113.10", MAC_V4), (V6, MAC_V6)] {
            eventually(&format!("{address} answers"), || answers(address));
            assert!(neighbour(address).contains(mac), "{}", neighbour(address));
        }
        set_hold(&registration, false);
        eventually("it is released", || !host.output(&["ip", "address"]).contains("203.0.113.10"));
        peer.ip(&["neigh", "flush", "all"]);
        for address in ["203.0.113.10", V6] {
            assert!(!answers(address), "{address} is released");
            assert!(!neighbour(address).contains("lladdr"), "{}", neighbour(address));
        }
    }
    let seen = registration.seen.borrow().clone().unwrap();
    let families: Vec<Family> = seen.channels.iter().map(|channel| channel.family).collect();
    assert_eq!(families, [Family::V4, Family::V6]);
    let macs = seen.channels.iter().map(|channel| channel.place.unwrap().virtual_mac.unwrap());
    assert_eq!(macs.collect::<Vec<_>>(), [[0, 0, 0x5e, 0, 1, 51], [0, 0, 0x5e, 0, 2, 51]]);
    let eventually_usable = || {
        let seen = registration.seen.borrow();
        let mut primaries = seen.iter().flat_map(|seen| &seen.channels).map(|channel| &channel.interface);
        let v4 = matches!(primaries.next(), Some(Usable::Up { primary }) if *primary == host.address);
        let v6 = matches!(primaries.next(), Some(Usable::Up { primary }) if primary.to_string().starts_with("fe80:"));
        v4 && v6
    };
    eventually("both families have an address to send from", eventually_usable);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn neighbours_that_know_another_mac_are_told_without_asking() {
    let lab = Lab::new(2);
    let (host, peer) = (&lab.hosts[0], &lab.hosts[1]);
    peer.ip(&["address", "add", "2001:db8::2/64", "dev", "eth0", "nodad"]);
    let mac = host.output(&["cat", "/sys/class/net/eth0/address"]).trim().to_owned();
    let keeper = host.run(start_keeper);
    let registration =
        register(&keeper, &instance(false, vec![address("203.0.113.10", 24), address(V6, 64)]));
    let learn_wrong = || {
        for address in ["203.0.113.10", V6] {
            peer.ip(&[
                "neigh",
                "replace",
                address,
                "lladdr",
                "02:00:00:00:00:99",
                "nud",
                "stale",
                "dev",
                "eth0",
            ]);
        }
    };
    let told = || {
        ["203.0.113.10", V6]
            .iter()
            .all(|address| peer.output(&["ip", "neigh", "show", address]).contains(&mac))
    };
    learn_wrong();
    set_hold(&registration, true);
    eventually("the neighbours are told when the addresses come", told);
    learn_wrong();
    // One that is asked for while another is under way is part of it.
    let ask = || registration.wanted.send_modify(|wanted| wanted.bursts += 1);
    eventually("and when it is asked for", || {
        ask();
        told()
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_route_or_rule_that_somebody_else_has_stays_his() {
    let lab = Lab::new(1);
    let host = &lab.hosts[0];
    let rule = ["rule", "add", "priority", "1000", "from", "203.0.113.10", "table", "100"];
    host.ip(&rule);
    host.ip(&["route", "add", "2001:db8:7::/48", "dev", "eth0", "metric", "1024"]);
    let keeper = host.run(start_keeper);
    let registration = hold(&keeper, &Instance { virtual_mac: false, ..everything() });
    eventually("the rest is there", || {
        host.output(&["ip", "-6", "rule"]).contains("1001:") && host.output(&["ip", "address"]).contains(V6)
    });
    wait_released(registration);
    assert!(host.output(&["ip", "rule"]).contains("1000:"));
    assert!(host.output(&["ip", "-6", "route"]).contains("2001:db8:7::/48"));
    assert!(!host.output(&["ip", "-6", "rule"]).contains("1001:"));
}
