//! The way to another host, as the kernel knows it, of either family.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use evenkeel::desired::Way;
use evenkeel::net::next_hop::{self, Found};
use evenkeel::net::way::Unresolved;
use lb_common::backend::{SERVICE_TAG, TAGGED, tags};
use nix::net::if_::if_nametoindex;

use super::lab::{Host, Lab, eventually, runtime};

pub(crate) const OLD: &str = "02:00:00:00:00:01";
pub(crate) const NEW: &str = "02:00:00:00:00:02";

/// Addresses of one family.
pub(crate) struct Family {
    /// Of the first host, its neighbours and nobody.
    pub(crate) hosts: [IpAddr; 3],
    pub(crate) silent: IpAddr,
    /// A network behind a neighbour, and an address in it.
    pub(crate) network: &'static str,
    pub(crate) behind: IpAddr,
    /// An address that no route leads to, until one is made.
    pub(crate) unroutable: IpAddr,
    settings: &'static str,
}

pub(crate) fn families() -> [Family; 2] {
    let ip = |text: &str| text.parse().unwrap();
    [
        Family {
            hosts: ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(ip),
            silent: ip("203.0.113.99"),
            network: "192.0.2.0/24",
            behind: ip("192.0.2.1"),
            unroutable: ip("10.1.0.1"),
            settings: "ipv4",
        },
        Family {
            hosts: ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(ip),
            silent: ip("2001:db8::99"),
            network: "2001:db8:1::/64",
            behind: ip("2001:db8:1::1"),
            unroutable: ip("2001:db8:2::1"),
            settings: "ipv6",
        },
    ]
}

/// Gives the hosts IPv6 addresses too.
pub(crate) fn lab(hosts: u8) -> Lab {
    let lab = Lab::new(hosts);
    (0..usize::from(hosts)).for_each(|host| add_ipv6(&lab, host));
    lab
}

pub(crate) fn add_ipv6(lab: &Lab, host: usize) {
    let host_address = families()[1].hosts[host];
    let host = &lab.hosts[host];
    // Without the second for which the kernel looks whether somebody has the address, at every change of the link.
    for (name, value) in [("accept_dad", "0"), ("keep_addr_on_down", "1")] {
        host.run(|| std::fs::write(format!("/proc/sys/net/ipv6/conf/eth0/{name}"), value).unwrap());
    }
    // The link-local address of before is still looked for.
    host.ip(&["link", "set", "eth0", "down"]);
    host.ip(&["link", "set", "eth0", "up"]);
    host.ip(&["address", "add", &format!("{host_address}/64"), "dev", "eth0", "nodad"]);
}

fn read(host: &Host, destinations: &BTreeSet<IpAddr>) -> Found {
    host.run(|| {
        runtime().block_on(async {
            let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            next_hop::resolve(&netlink, destinations).await.unwrap()
        })
    })
}

fn resolve(host: &Host, destinations: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Result<Way, Unresolved>> {
    read(host, destinations).ways
}

pub(crate) fn way(host: &Host, destination: IpAddr) -> Result<Way, Unresolved> {
    resolve(host, &BTreeSet::from([destination])).remove(&destination).unwrap()
}

/// What a way says: the MAC address, or why there is none.
pub(crate) fn told(way: &Result<Way, Unresolved>) -> String {
    match way {
        Ok(way) => way.next_hop.destination.map(|byte| format!("{byte:02x}")).join(":"),
        Err(error) => error.to_string(),
    }
}

fn mac(host: &Host, destination: IpAddr) -> String {
    told(&way(host, destination))
}

fn index(host: &Host, interface: &str) -> u32 {
    host.run(|| if_nametoindex(interface).unwrap())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_host_or_gateway_is_followed_to_its_new_mac_address_though_only_xdp_talks_to_it() {
    for Family { hosts, network, behind, settings, .. } in families() {
        let lab = lab(2);
        let (host, other) = (&lab.hosts[0], hosts[1]);
        host.ip(&["route", "add", network, "via", &other.to_string()]);
        // The kernel's default is five seconds.
        let delay = format!("/proc/sys/net/{settings}/neigh/eth0/delay_first_probe_time");
        host.run(|| std::fs::write(delay, "1").unwrap());
        lab.hosts[1].ip(&["link", "set", "eth0", "address", OLD]);
        host.ip(&["neigh", "replace", &other.to_string(), "lladdr", OLD, "dev", "eth0", "nud", "stale"]);
        // Stands for another machine with the same address that says nothing by itself.
        lab.hosts[1].ip(&["link", "set", "eth0", "address", NEW]);
        assert_eq!([mac(host, other), mac(host, behind)], [OLD, OLD], "better than none");
        eventually("the new address is known", || [mac(host, other), mac(host, behind)] == [NEW, NEW]);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_destination_without_a_way_keeps_no_other_from_its_own_and_says_what_is_wrong() {
    for Family { hosts: [own, gateway, _], network, behind, silent, unroutable, .. } in families() {
        let lab = lab(2);
        let host = &lab.hosts[0];
        let (silence, dropped) = (silent.to_string(), unroutable.to_string());
        host.ip(&["route", "add", network, "via", &gateway.to_string()]);
        let bad = [unroutable, own, silent];
        let destinations = BTreeSet::from_iter([behind, gateway].into_iter().chain(bad));
        eventually("the gateway and the host behind it have a way", || {
            let ways = resolve(host, &destinations);
            assert_eq!(ways.len(), destinations.len());
            assert!(bad.iter().all(|bad| ways[bad].is_err()), "{ways:?}");
            assert_eq!(ways[&own], Err(Unresolved::Local));
            ways[&behind].is_ok() && ways[&gateway].is_ok()
        });
        let protocol = if silent.is_ipv4() { "ARP" } else { "ND" };
        assert_eq!(mac(host, silent), format!("{silence} does not answer {protocol}"));
        assert_eq!(mac(host, unroutable), "no route: the routing table has none");
        let refusals = [
            ("unreachable", "unreachable"),
            ("prohibit", "prohibit"),
            ("blackhole", "blackhole, or no host can have this address"),
        ];
        for (kind, says) in refusals {
            host.ip(&["route", "replace", kind, &dropped]);
            assert_eq!(mac(host, unroutable), format!("no route: the routing table says {says}"));
            host.ip(&["route", "del", kind, &dropped]);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_source_is_the_routes_or_the_kernels_choice_and_the_mtu_the_smallest() {
    for Family { hosts: [own, gateway, _], network, behind, .. } in families() {
        let lab = lab(2);
        let host = &lab.hosts[0];
        let preferred = if own.is_ipv4() { "198.51.100.7" } else { "2001:db8:9::7" };
        host.ip(&["address", "add", preferred, "dev", "lo"]);
        host.ip(&["route", "add", network, "via", &gateway.to_string()]);
        let found =
            || way(host, behind).map(|way| (way.source, way.mtu, way.next_hop.tags, way.next_hop.ifindex));
        eventually("there is a way", || found().is_ok());
        let interface = index(host, "eth0");
        assert_eq!(found(), Ok((own, 1500, 0, interface)));
        let via = ["via", &gateway.to_string(), "src", preferred, "mtu", "1400"];
        host.ip(&[&["route", "replace", network], &via[..]].concat());
        assert_eq!(found(), Ok((preferred.parse().unwrap(), 1400, 0, interface)));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_node_with_nothing_but_a_link_local_address_has_no_source_for_ipv6() {
    let lab = lab(2);
    let [own, gateway, _] = families()[1].hosts;
    let host = &lab.hosts[0];
    eventually("there is a way", || way(host, gateway).is_ok());
    host.ip(&["address", "del", &format!("{own}/64"), "dev", "eth0"]);
    host.ip(&["route", "replace", "2001:db8::/64", "dev", "eth0"]);
    eventually("there is no source", || way(host, gateway) == Err(Unresolved::NoSource));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn of_several_next_hops_the_one_is_taken_that_the_kernel_chooses() {
    for Family { hosts: [_, one, other], network, behind, .. } in families() {
        let lab = lab(3);
        let host = &lab.hosts[0];
        lab.hosts[1].ip(&["link", "set", "eth0", "address", OLD]);
        lab.hosts[2].ip(&["link", "set", "eth0", "address", NEW]);
        let (one, other) = (one.to_string(), other.to_string());
        host.ip(&["route", "add", network, "nexthop", "via", &one, "nexthop", "via", &other]);
        eventually("there is a way", || [OLD, NEW].contains(&mac(host, behind).as_str()));
        let first = mac(host, behind);
        eventually("it stays", || mac(host, behind) == first);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_ipv4_destination_may_be_behind_an_ipv6_gateway() {
    let lab = lab(2);
    let host = &lab.hosts[0];
    lab.hosts[1].ip(&["link", "set", "eth0", "address", NEW]);
    host.ip(&["route", "add", "192.0.2.0/24", "via", "inet6", "2001:db8::2"]);
    let behind = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    eventually("there is a way", || mac(host, behind) == NEW);
    assert_eq!(way(host, behind).unwrap().source, IpAddr::V4(host.address));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_macvlan_interface_is_a_station_of_the_one_below_it_and_its_frames_leave_by_that() {
    let virtual_mac = [0, 0, 0x5e, 0, 1, 51];
    let lab = lab(2);
    let host = &lab.hosts[0];
    let interface = index(host, "eth0");
    let stations =
        || read(host, &BTreeSet::new()).links.stations(&BTreeSet::from([interface]), &BTreeSet::new());
    let before = stations();
    assert_eq!(before.len(), 1);
    host.ip(&["link", "add", "link", "eth0", "name", "vrrp51", "type", "macvlan", "mode", "bridge"]);
    host.ip(&["link", "set", "vrrp51", "address", "00:00:5e:00:01:33", "up"]);
    let with: Vec<_> = stations().difference(&before).map(|added| (added.ifindex, added.address)).collect();
    assert_eq!(with, [(interface, virtual_mac)]);

    lab.hosts[1].ip(&["address", "add", "198.51.100.2/24", "dev", "eth0"]);
    host.ip(&["address", "add", "198.51.100.1/24", "dev", "vrrp51"]);
    let other = "198.51.100.2".parse().unwrap();
    eventually("there is a way", || way(host, other).is_ok());
    let hop = way(host, other).unwrap().next_hop;
    assert_eq!((hop.ifindex, hop.source), (interface, virtual_mac));

    host.ip(&["link", "del", "vrrp51"]);
    assert_eq!(stations(), before);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_vlan_interface_adds_its_tag_and_its_frames_leave_by_the_one_below_it() {
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 3];
    let lab = lab(2);
    let (host, interface) = (&lab.hosts[0], index(&lab.hosts[0], "eth0"));
    if !has_vlans(host) {
        println!("not tested: this kernel has no VLAN interfaces");
        return;
    }
    for (number, host) in (1..).zip(&lab.hosts) {
        host.ip(&["link", "add", "link", "eth0", "name", "one", "type", "vlan", "id", "5"]);
        host.ip(&[
            "link", "add", "link", "eth0", "name", "outer", "type", "vlan", "proto", "802.1ad", "id", "7",
        ]);
        host.ip(&["link", "add", "link", "outer", "name", "inner", "type", "vlan", "id", "4094"]);
        for (interface, network) in [("one", 5), ("outer", 6), ("inner", 7)] {
            host.ip(&["link", "set", interface, "up"]);
            host.ip(&["address", "add", &format!("10.0.{network}.{number}/24"), "dev", interface]);
            let address = format!("2001:db8:{network}::{number}/64");
            host.ip(&["address", "add", &address, "dev", interface, "nodad"]);
        }
    }
    host.ip(&["link", "set", "inner", "address", "02:00:00:00:00:03", "mtu", "1400"]);
    let (five, seven) = (5 | TAGGED, 7 | TAGGED | SERVICE_TAG);
    let rows = [(5, tags(0, five), 1500), (6, tags(0, seven), 1500), (7, tags(seven, 4094 | TAGGED), 1400)];
    for (network, tags, mtu) in rows {
        for other in [format!("10.0.{network}.2"), format!("2001:db8:{network}::2")] {
            let other = other.parse().unwrap();
            eventually("there is a way", || way(host, other).is_ok());
            let way = way(host, other).unwrap();
            assert_eq!((way.next_hop.ifindex, way.next_hop.tags, way.mtu), (interface, tags, mtu), "{other}");
            assert_eq!(way.next_hop.source == OWN, network == 7, "{other}");
        }
    }
    let stations =
        read(host, &BTreeSet::new()).links.stations(&BTreeSet::from([interface]), &BTreeSet::new());
    assert_eq!(stations.len(), 2, "eth0's own is also that of two VLAN interfaces");
    assert!(stations.iter().any(|station| station.address == OWN));
}

fn has_vlans(host: &Host) -> bool {
    let mut ip = Command::new("ip");
    ip.args(["link", "add", "link", "eth0", "name", "probe", "type", "vlan", "id", "1"]);
    host.run(|| ip.stderr(Stdio::null()).status().unwrap().success())
}
