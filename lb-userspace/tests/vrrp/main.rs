//! Instances in network namespaces: with each other, with real keepalived, and against what hosts do to them; and what
//! the kernel says of the ways there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod accept;
mod keeper;
mod lab;
mod matrix;

mod next_hop;
mod pair;
mod path_mtu;
mod tshark;
mod ways;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use evenkeel::config::model::{Instance, Prefix, Version, Vrid};
use evenkeel::status::InstanceState::{Backup, Fault, Master};
use evenkeel::vrrp::wire::auth::Signer;
use evenkeel::vrrp::wire::{self, Addresses, Advert, Checksum, Family};
use evenkeel::vrrp::{guard, spawn};
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use lab::{INTERVAL, LENGTH, Lab, VIRTUAL, eventually, instance, start_keeper};

/// Not a test: what this binary does when it is started again in a role, or nothing.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn role() {
    match std::env::var(lab::ROLE).as_deref() {
        Ok("guard") => guard::run().unwrap(),
        Ok("node") => {
            let (events, _received) = tokio::sync::mpsc::channel(1);
            let _handle = spawn(vec![instance(100)], &start_keeper(), lab::untracked(), events).unwrap();
            // Until killed, or until the test that started it is gone.
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        Ok("keeper") => {
            let keeper = start_keeper();
            let _registration = keeper::hold(&keeper, &keeper::everything());
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        _ => {}
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_transition_that_nobody_takes_keeps_no_instance_waiting_and_is_counted() {
    let lab = Lab::new(1);
    let (events, mut received) = tokio::sync::mpsc::channel(1);
    let host = &lab.hosts[0];
    let handle = host.run(|| spawn(vec![instance(100)], &start_keeper(), lab::untracked(), events).unwrap());
    lab.wait_for_holder(0);
    // The first one, to backup, waits; there was no room for the second.
    eventually("the other is counted", || handle.snapshot()[0].lost_transitions == 1);
    assert!(received.try_recv().is_ok() && received.try_recv().is_err());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_higher_priority_holds_the_address_the_other_takes_over_at_a_stop_and_gives_it_back() {
    let lab = Lab::new(2);
    let mut high = lab.hosts[0].start(instance(150));
    let mut low = lab.hosts[1].start(instance(100));
    high.wait_for(Master);
    lab.wait_for_holder(0);
    eventually("the backup has heard the master", || low.status().peer.is_some());
    assert_eq!((high.status().state, low.status().state), (Master, Backup));
    high.assert_nothing_ignored();

    high.stop();
    assert_eq!(low.wait_for(Master), "203.0.113.1 gave the mastership away (priority 0)");
    lab.wait_for_holder(1);

    let mut high = lab.hosts[0].start(instance(150));
    assert_eq!(high.wait_for(Master), "took over from 203.0.113.2 (priority 100, ours is 150)");
    assert_eq!(low.wait_for(Backup), "203.0.113.1 has priority 150, ours is 100");
    lab.wait_for_holder(0);
    high.assert_nothing_ignored();
    low.assert_nothing_ignored();
    low.stop();
    high.stop();
    assert!(lab.holders().is_empty());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_master_that_loses_its_link_is_succeeded_and_says_why() {
    let lab = Lab::new(2);
    let mut high = lab.hosts[0].start(instance(150));
    let mut low = lab.hosts[1].start(instance(100));
    high.wait_for(Master);
    eventually("the backup has heard the master", || low.status().peer.is_some());
    lab.hosts[0].ip(&["link", "set", "eth0", "down"]);
    assert_eq!(high.wait_for(Fault), "interface eth0 is down");
    assert!(low.wait_for(Master).starts_with("no advertisement from 203.0.113.1 (priority 150) for 0."));
    lab.wait_for_holder(1);
    lab.hosts[0].ip(&["link", "set", "eth0", "up"]);
    high.wait_for(Master);
    lab.wait_for_holder(0);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_interface_that_is_missing_without_address_or_made_anew_is_waited_for() {
    let lab = Lab::new(1);
    lab.hosts[0].ip(&["link", "del", "eth0"]);
    let mut node = lab.hosts[0].start(instance(100));
    assert_eq!(node.wait_for(Fault), "there is no interface eth0");
    for _ in 0..2 {
        lab.plug_in(0);
        node.wait_for(Master);
        lab.wait_for_holder(0);
        lab.hosts[0].ip(&["address", "del", &format!("203.0.113.1/{LENGTH}"), "dev", "eth0"]);
        assert!(node.wait_for(Fault).contains("has no IPv4 address"));
        lab.hosts[0].ip(&["link", "del", "eth0"]);
        eventually("the missing interface is noticed", || {
            node.status().reason == "there is no interface eth0"
        });
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn keepalived_takes_over_from_evenkeel_and_gives_back() {
    let lab = Lab::new(2);
    let mut node = lab.hosts[0].start(instance(150));
    node.wait_for(Master);
    let keepalived = lab.hosts[1].start_keepalived(&lab, 100);
    // It takes RFC 9568's checksum for wrong until this node has heard it and adopted its form.
    eventually("keepalived was heard", || node.status().advertisements_received > 0);
    lab.wait_for_holder(0);
    assert!(node.status().second_masters > 0);

    node.stop();
    lab.wait_for_holder(1);

    let mut node = lab.hosts[0].start(instance(150));
    assert_eq!(node.wait_for(Master), "took over from 203.0.113.2 (priority 100, ours is 150)");
    lab.wait_for_holder(0);
    let sent = node.status().advertisements_sent;
    eventually("ten more advertisements are sent", || node.status().advertisements_sent > sent + 10);
    assert_eq!(lab.holders(), [0], "keepalived stays backup");
    assert_eq!(node.status().state, Master);
    node.assert_nothing_ignored();
    keepalived.terminate();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn evenkeel_takes_over_from_keepalived_and_gives_back() {
    let lab = Lab::new(2);
    let keepalived = lab.hosts[1].start_keepalived(&lab, 150);
    lab.wait_for_holder(1);
    let mut node = lab.hosts[0].start(instance(100));
    node.wait_for(Backup);
    eventually("keepalived was heard", || node.status().advertisements_received > 10);
    assert_eq!(node.status().transitions[&Master], 0);

    keepalived.terminate();
    assert_eq!(node.wait_for(Master), "203.0.113.2 gave the mastership away (priority 0)");
    lab.wait_for_holder(0);

    let _keepalived = lab.hosts[1].start_keepalived(&lab, 150);
    assert_eq!(node.wait_for(Backup), "203.0.113.2 has priority 150, ours is 100");
    lab.wait_for_holder(1);
    node.assert_nothing_ignored();
    let status = node.status();
    assert_eq!(status.pseudo_header_checksums, status.advertisements_received);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_address_that_somebody_deletes_comes_back_and_one_left_behind_goes() {
    let lab = Lab::new(2);
    let address = format!("{VIRTUAL}/{LENGTH}");
    lab.hosts[1].ip(&["address", "add", &address, "dev", "eth0"]);
    let mut high = lab.hosts[0].start(instance(150));
    let _low = lab.hosts[1].start(instance(100));
    high.wait_for(Master);
    lab.wait_for_holder(0);
    for _ in 0..3 {
        lab.hosts[0].ip(&["address", "del", &address, "dev", "eth0"]);
        lab.wait_for_holder(0);
    }
    lab.hosts[1].ip(&["address", "add", &address, "dev", "eth0"]);
    lab.wait_for_holder(0);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_reload_changes_addresses_and_priority_in_place() {
    let other = Ipv4Addr::new(198, 51, 100, 7);
    let prefix = |address, length| Prefix { address: IpAddr::V4(address), length }.into();
    let lab = Lab::new(2);
    let host = &lab.hosts[0];
    let mut high = host.start(instance(150));
    let mut low = lab.hosts[1].start(instance(100));
    high.wait_for(Master);
    eventually("the backup has heard the master", || low.status().peer.is_some());

    let addresses = vec![prefix(VIRTUAL, LENGTH), prefix(other, 32)];
    high.handle.reconfigure(vec![Instance { addresses, ..instance(150) }]);
    eventually("the new address is there", || host.holds(other) && host.holds(VIRTUAL));
    high.handle.reconfigure(vec![Instance { addresses: vec![prefix(other, 32)], ..instance(140) }]);
    eventually("the old address is gone", || host.holds(other) && !host.holds(VIRTUAL));
    eventually("the peer hears the new priority", || low.status().peer.unwrap().priority == 140);
    assert_eq!((high.status().transitions[&Master], low.status().transitions[&Master]), (1, 0));

    high.handle.reconfigure(vec![Instance { addresses: vec![prefix(other, 32)], ..instance(50) }]);
    assert_eq!(low.wait_for(Master), "took over from 203.0.113.1 (priority 50, ours is 100)");
    eventually("the released address is gone", || !host.holds(other));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_instance_with_a_new_vrid_leaves_the_addresses_to_the_old_one_until_that_has_stopped() {
    let lab = Lab::new(1);
    let host = &lab.hosts[0];
    let file = lab.folder.path().join("changes");
    let _monitor = host.monitor_addresses(&file);
    let removals = || {
        let changes = std::fs::read_to_string(&file).unwrap();
        let is_removal = |line: &&str| line.starts_with("Deleted") && line.contains(&format!("{VIRTUAL}/"));
        changes.lines().filter(is_removal).count()
    };
    let keeper = host.run(start_keeper);
    let mut old = host.start_with(instance(100), &keeper);
    old.wait_for(Master);
    lab.wait_for_holder(0);

    let vrid = Vrid::new(52).unwrap();
    let mut new =
        host.start_with(Instance { vrid, advertise: Duration::from_secs(1), ..instance(100) }, &keeper);
    new.wait_for(Backup);
    old.stop();
    eventually("the old instance has removed the address", || removals() > 0);
    new.wait_for(Master);
    lab.wait_for_holder(0);
    assert_eq!(removals(), 1);
    new.stop();
    assert!(lab.holders().is_empty());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_daemon_leaves_no_address_behind() {
    let lab = Lab::new(1);
    let node = lab.hosts[0].start_role("node");
    lab.wait_for_holder(0);
    // What a service manager or a closed terminal sends to all processes at once must not end the guard first.
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
        lab.hosts[0].signal_all_but(&node, signal);
    }
    node.kill();
    eventually("the address is gone", || lab.holders().is_empty());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_guard_is_replaced_before_the_daemon_needs_it() {
    let lab = Lab::new(1);
    let node = lab.hosts[0].start_role("node");
    lab.wait_for_holder(0);
    let killed = lab.hosts[0].pids_but(&node);
    lab.hosts[0].signal_all_but(&node, Signal::SIGKILL);
    eventually("another guard runs", || {
        let guards = lab.hosts[0].pids_but(&node);
        !guards.is_empty() && guards.iter().all(|guard| !killed.contains(guard))
    });
    node.kill();
    eventually("the address is gone", || lab.holders().is_empty());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn malformed_and_foreign_packets_change_nothing_and_are_counted_by_reason() {
    let lab = Lab::new(2);
    let mut node = lab.hosts[0].start(instance(100));
    node.wait_for(Master);
    let good = claim(51, lab.hosts[1].address);
    let changed = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    let rows = [
        ("bad_ttl", changed(8, 254)),
        ("bad_version", changed(20, 0x21)),
        ("bad_checksum", changed(27, good[27] ^ 1)),
        ("truncated", changed(23, 9)),
    ];
    lab.hosts[1].run(|| {
        let socket = raw_socket();
        rows.iter().for_each(|(_, packet)| send(&socket, packet));
    });
    for (reason, _) in &rows {
        eventually(reason, || node.status().discarded[*reason] == 1);
    }
    let status = node.status();
    assert_eq!((status.state, status.advertisements_received), (Master, 0));
    assert_eq!(status.discarded.values().sum::<u64>(), rows.len() as u64);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flood_of_foreign_packets_moves_nobody() {
    const PACKETS: u64 = 20_000;
    let lab = Lab::new(3);
    let mut high = lab.hosts[0].start(instance(150));
    let low = lab.hosts[1].start(instance(100));
    high.wait_for(Master);
    eventually("the backup has heard the master", || low.status().peer.is_some());
    lab.hosts[2].run(|| {
        let (socket, mut spoofed) = (raw_socket(), claim(51, lab.hosts[2].address));
        spoofed[8] = 254;
        let other = claim(52, lab.hosts[2].address);
        (0..PACKETS).for_each(|number| send(&socket, if number % 2 == 0 { &spoofed } else { &other }));
    });
    let heard = low.status().advertisements_received;
    eventually("the master is heard on", || low.status().advertisements_received > heard + 10);
    assert!(low.status().discarded["bad_ttl"] > 0);
    assert_eq!((high.status().transitions[&Master], high.status().transitions[&Backup]), (1, 1));
    assert_eq!(low.status().transitions[&Master], 0);
}

/// An advertisement that every node of its virtual router would obey.
fn claim(vrid: u8, source: Ipv4Addr) -> Vec<u8> {
    let vrid = Vrid::new(vrid).unwrap();
    let addresses = Addresses::V4(vec![VIRTUAL]);
    let advert = Advert { vrid, priority: 255, interval: INTERVAL, addresses };
    let (group, form, mut signer) = (Family::V4.group(), Checksum::Message, Signer::new(None));
    let message = advert.message(Version::V3, source.into(), group, form, &mut signer, Duration::ZERO);
    wire::packet(source, wire::GROUP, &message)
}

fn raw_socket() -> Socket {
    let protocol = Protocol::from(i32::from(wire::PROTOCOL));
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).unwrap();
    socket.set_header_included_v4(true).unwrap();
    socket.bind_device(Some(b"eth0")).unwrap();
    socket
}

fn send(socket: &Socket, packet: &[u8]) {
    socket.send_to(packet, &SocketAddrV4::new(wire::GROUP, 0).into()).unwrap();
}
