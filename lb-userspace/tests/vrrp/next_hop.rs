//! The way to another host, as the kernel knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use evenkeel::desired::Way;
use evenkeel::net::next_hop::{self, Unresolved};

use super::lab::{Host, Lab, eventually, runtime};

const OLD: &str = "02:00:00:00:00:01";
const NEW: &str = "02:00:00:00:00:02";

fn resolve(host: &Host, destinations: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Result<Way, Unresolved>> {
    host.run(|| {
        runtime().block_on(async {
            let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            next_hop::resolve(&netlink, destinations).await.unwrap()
        })
    })
}

/// What the way to one destination says: the MAC address, or why there is none.
fn mac(host: &Host, destination: Ipv4Addr) -> String {
    let destination = IpAddr::V4(destination);
    match resolve(host, &BTreeSet::from([destination])).remove(&destination).unwrap() {
        Ok(way) => way.next_hop.destination.map(|byte| format!("{byte:02x}")).join(":"),
        Err(error) => error.to_string(),
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_host_or_gateway_is_followed_to_its_new_mac_address_though_only_xdp_talks_to_it() {
    let lab = Lab::new(2);
    let (host, other) = (&lab.hosts[0], lab.hosts[1].address);
    let behind = Ipv4Addr::new(192, 0, 2, 1);
    host.ip(&["route", "add", "192.0.2.0/24", "via", &other.to_string()]);
    // The kernel's default is five seconds.
    host.run(|| std::fs::write("/proc/sys/net/ipv4/neigh/eth0/delay_first_probe_time", "1").unwrap());
    lab.hosts[1].ip(&["link", "set", "eth0", "address", OLD]);
    host.ip(&["neigh", "replace", &other.to_string(), "lladdr", OLD, "dev", "eth0", "nud", "stale"]);
    // Stands for another machine with the same address that says nothing by itself.
    lab.hosts[1].ip(&["link", "set", "eth0", "address", NEW]);
    assert_eq!([mac(host, other), mac(host, behind)], [OLD, OLD], "better than none");
    eventually("the new address is known", || [mac(host, other), mac(host, behind)] == [NEW, NEW]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_destination_without_a_way_keeps_no_other_from_its_own() {
    let lab = Lab::new(2);
    let (host, gateway) = (&lab.hosts[0], lab.hosts[1].address);
    let behind = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)].map(IpAddr::V4);
    let unroutable = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let blackhole = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
    let version_6 = "2001:db8::1".parse().unwrap();
    host.ip(&["route", "add", "192.0.2.0/24", "via", &gateway.to_string()]);
    host.ip(&["route", "add", "blackhole", "10.1.0.0/16"]);
    let own = IpAddr::V4(host.address);
    let silent = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 99));
    let bad = [unroutable, blackhole, version_6, own, silent];
    let destinations = BTreeSet::from_iter(behind.into_iter().chain(bad));
    eventually("both hosts behind the gateway have a way", || {
        let ways = resolve(host, &destinations);
        assert_eq!(ways.len(), destinations.len());
        assert!(bad.iter().all(|bad| ways[bad].is_err()), "{ways:?}");
        assert_eq!(ways[&own], Err(Unresolved::Local));
        behind.iter().all(|behind| ways[behind].is_ok())
    });
}
