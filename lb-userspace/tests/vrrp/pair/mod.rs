//! Two nodes with each other: groups, both families at once, handing over, and what the network does to them.

mod keys;
mod segment;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use evenkeel::config::model::{Instance, Preempt, Prefix, Vrid};
use evenkeel::status::InstanceState::{Backup, Fault, Master};
use evenkeel::vrrp::{FailoverError, wire};

use crate::lab::{LENGTH, Lab, Process, Running, VIRTUAL, eventually, instance, runtime, start_keeper};
use crate::tshark;

/// Of the second segment.
const INSIDE: &str = "198.51.100.10";
const V6: &str = "2001:db8::10";

fn pair(lab: &Lab, high: Instance, low: Instance) -> (Running, Running) {
    let mut high = lab.hosts[0].start(high);
    let mut low = lab.hosts[1].start(low);
    high.wait_for(Master);
    low.wait_for(Backup);
    eventually("the backup has heard the master", || low.status().peer.is_some());
    (high, low)
}

fn transitions(node: &Running) -> u64 {
    node.status().transitions.values().sum()
}

/// Both have heard, or sent, some more.
fn some_more(high: &Running, low: &Running) {
    let heard = low.status().advertisements_received;
    eventually("the backup hears more", || low.status().advertisements_received > heard + 4);
    assert_eq!((high.status().state, low.status().state), (Master, Backup));
}

fn inside(priority: u8) -> Instance {
    let prefix = Prefix { address: INSIDE.parse().unwrap(), length: LENGTH };
    Instance {
        name: "inside".to_owned(),
        interface: "eth1".to_owned(),
        vrid: Vrid::new(52).unwrap(),
        addresses: vec![prefix.into()],
        ..instance(priority)
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_instances_of_a_group_move_together_when_one_link_dies() {
    let lab = Lab::new(2);
    lab.add_second_segment();
    let start = |host: usize, priority| {
        let host = &lab.hosts[host];
        host.start_group(vec![instance(priority), inside(priority)], &host.run(start_keeper))
    };
    let (mut high, mut low) = (start(0, 150), start(1, 100));
    high.wait_for(Master);
    low.wait_for(Backup);
    let all_on = |host: usize| {
        eventually(&format!("host {host} holds all"), || {
            lab.holders() == [host] && lab.holders_of(INSIDE.parse().unwrap()) == [host]
        });
    };
    for interface in ["eth0", "eth1"] {
        all_on(0);
        lab.hosts[0].ip(&["link", "set", interface, "down"]);
        assert_eq!(high.wait_for(Fault), format!("interface {interface} is down"));
        low.wait_for(Master);
        all_on(1);
        lab.hosts[0].ip(&["link", "set", interface, "up"]);
        high.wait_for(Master);
        assert!(low.wait_for(Backup).ends_with(".1 has priority 150, ours is 100"));
    }
    all_on(0);
    let refused = runtime().block_on(low.handle.failover("inside").run());
    let not_master = FailoverError::NotMaster { instance: "inside".to_owned(), state: Backup };
    assert_eq!(refused, Err(not_master), "it is named as it was asked for");
    high.stop();
    all_on(1);
    low.assert_nothing_ignored();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_member_that_a_reload_moves_is_advertised_on_its_new_interface_only() {
    const MOVED: &str = "198.51.100.77";
    let lab = Lab::new(1);
    lab.add_second_segment();
    let host = &lab.hosts[0];
    let files = ["first", "second"].map(|name| lab.folder.path().join(name));
    let captures =
        [lab.capture(0, "ip proto 112", &files[0]), lab.capture_second(0, "ip proto 112", &files[1])];
    let mut node = host.start_group(vec![instance(150), inside(150)], &host.run(start_keeper));
    node.wait_for(Master);
    // With another address, by which what it sends from then on is known.
    let prefix = Prefix { address: MOVED.parse().unwrap(), length: LENGTH };
    let moved = Instance { interface: "eth0".to_owned(), addresses: vec![prefix.into()], ..inside(150) };
    for (member, place) in [(moved, "eth0"), (inside(150), "eth1")] {
        node.handle.reconfigure(vec![instance(150), member]);
        let advertises = || {
            let member = &node.handle.snapshot()[1];
            member.interface == place && member.advertisements_sent > 4
        };
        eventually(&format!("it advertises on {place}"), advertises);
    }
    captures.into_iter().for_each(Process::terminate);
    let read = |file: &Path| -> BTreeSet<String> {
        let fields = ["vrrp.virt_rtr_id", "vrrp.ip_addr", "ip.src"];
        tshark::read(file, wire::Checksum::Message, &fields).into_iter().collect()
    };
    let first = [format!("51;{VIRTUAL};203.0.113.1"), format!("52;{MOVED};203.0.113.1")];
    assert_eq!(read(&files[0]), BTreeSet::from(first));
    assert_eq!(read(&files[1]), BTreeSet::from([format!("52;{INSIDE};198.51.100.1")]));
    assert_eq!(node.status().transitions[&Master], 1);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn addresses_of_both_families_move_together() {
    let lab = Lab::new(2);
    lab.add_ipv6();
    let v6: IpAddr = V6.parse().unwrap();
    let both = |priority| {
        let mut both = instance(priority);
        both.addresses.push(Prefix { address: v6, length: 64 }.into());
        both
    };
    let all_on = |host: usize| {
        eventually(&format!("host {host} holds both"), || {
            lab.holders() == [host] && lab.holders_of(v6) == [host]
        });
    };
    let (high, mut low) = pair(&lab, both(150), both(100));
    all_on(0);
    high.stop();
    low.wait_for(Master);
    all_on(1);
    let mut high = lab.hosts[0].start(both(150));
    high.wait_for(Master);
    low.wait_for(Backup);
    all_on(0);
    lab.cut_off(0);
    low.wait_for(Master);
    lab.connect_again(0);
    low.wait_for(Backup);
    all_on(0);
    high.assert_nothing_ignored();
    low.assert_nothing_ignored();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_node_of_higher_priority_waits_as_long_as_its_preempt_delay_says() {
    const DELAY: Duration = Duration::from_secs(2);
    let lab = Lab::new(2);
    let mut low = lab.hosts[1].start(instance(100));
    low.wait_for(Master);
    let started = Instant::now();
    let mut high = lab.hosts[0].start(Instance { preempt: Preempt::After(DELAY), ..instance(150) });
    high.wait_for(Master);
    assert!(started.elapsed() >= DELAY, "{:?}", started.elapsed());
    low.wait_for(Backup);
    lab.wait_for_holder(0);

    let mut never = lab.hosts[1].start(Instance { preempt: Preempt::Never, ..instance(200) });
    never.wait_for(Backup);
    low.stop();
    eventually("the master was heard", || never.status().advertisements_received > 10);
    assert_eq!(never.status().transitions[&Master], 0);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn at_a_handover_somebody_holds_the_address_at_every_moment() {
    let lab = Lab::new(2);
    for virtual_mac in [false, true] {
        let node = |priority| Instance { virtual_mac, ..instance(priority) };
        let (high, mut low) = pair(&lab, node(150), node(100));
        lab.wait_for_holder(0);
        let files = [0, 1].map(|host| lab.folder.path().join(format!("{host}{virtual_mac}")));
        let _monitors = [0, 1].map(|host| lab.hosts[host].monitor_with_times(&files[host]));

        let why = runtime().block_on(high.handle.failover("outside").run());
        let expected = "handed over by evenkeel failover to 203.0.113.2 (priority 100)";
        assert!(why.as_ref().is_ok_and(|why| why.starts_with(expected)), "{why:?}");
        assert_eq!(low.wait_for(Master), "203.0.113.1 gave the mastership away (priority 0)");
        lab.wait_for_holder(1);
        eventually("both changes were seen", || changed(&files[0], true).is_some());
        let (taken, released) = (changed(&files[1], false), changed(&files[0], true));
        assert!(taken.is_some() && taken < released, "{taken:?} {released:?}");

        some_more(&low, &high);
        assert!(high.status().stands_back);
        high.handle.take_back("outside").unwrap();
        assert_eq!(low.wait_for(Backup), "203.0.113.1 has priority 150, ours is 100");
        lab.wait_for_holder(0);
        high.stop();
        low.stop();
    }
}

/// When the address was added, or deleted, for the first time.
fn changed(file: &Path, deleted: bool) -> Option<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let about_it =
        |line: &&str| line.contains(&format!("inet {VIRTUAL}/")) && line.contains("Deleted") == deleted;
    text.lines().find(about_it).map(|line| line.split(']').next().unwrap().to_owned())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_handover_to_nobody_is_refused_and_the_address_stays() {
    let lab = Lab::new(2);
    let mut node = lab.hosts[0].start(instance(150));
    node.wait_for(Master);
    lab.wait_for_holder(0);
    let file = lab.folder.path().join("changes");
    let _monitor = lab.hosts[0].monitor_with_times(&file);
    let instance_name = || "outside".to_owned();
    let refused = runtime().block_on(node.handle.failover("outside").run());
    assert_eq!(refused, Err(FailoverError::NobodyElse { instance: instance_name() }));
    assert_eq!(lab.holders(), [0]);
    assert_eq!(node.status().state, Master);
    assert_eq!(changed(&file, true), None);

    let mut low = lab.hosts[1].start(instance(100));
    low.wait_for(Backup);
    let refused = runtime().block_on(low.handle.failover("outside").run());
    assert_eq!(refused, Err(FailoverError::NotMaster { instance: instance_name(), state: Backup }));
}
