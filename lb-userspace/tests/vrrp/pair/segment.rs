//! What the network between two nodes does: it parts, hears one side only, and sends to whom the master is.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel::config::model::{Instance, Prefix};
use evenkeel::status::InstanceState::{Backup, Master};

use super::{V6, pair, some_more, transitions};
use crate::lab::{Host, Lab, VIRTUAL, eventually, instance};

const CLIENT: usize = 2;
/// Of parted nodes that hear each other again: many intervals, for a machine under load.
const HEALED: Duration = Duration::from_secs(5);
const REQUEST: &str = "arp and arp[6:2] = 1";
const REPLY: &str = "arp and arp[6:2] = 2";
/// Of a file of captured frames without any.
const HEADER: u64 = 24;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_link_that_carries_one_direction_only_makes_nobody_flap_and_is_shown() {
    let lab = Lab::new(2);
    let (high, mut low) = pair(&lab, instance(150), instance(100));
    // The master hears nobody, which is no news.
    lab.deafen(0);
    some_more(&high, &low);
    lab.undeafen(0);

    lab.deafen(1);
    low.wait_for(Master);
    eventually("the deaf one is found", || high.status().unheard_by == Some(lab.hosts[1].address.into()));
    let (before, sent) = ((transitions(&high), transitions(&low)), high.status().advertisements_sent);
    eventually("some time passes", || high.status().advertisements_sent > sent + 20);
    assert_eq!((transitions(&high), transitions(&low)), before);
    assert_eq!((high.status().state, low.status().state), (Master, Master));
    assert_eq!((high.status().second_masters, low.status().unheard_by), (1, None));

    lab.undeafen(1);
    assert_eq!(low.wait_for(Backup), "203.0.113.1 has priority 150, ours is 100");
    lab.wait_for_holder(0);
    eventually("it is heard again", || high.status().unheard_by.is_none());
    assert_eq!(high.status().transitions[&Master], 1);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_network_that_was_parted_has_one_master_again_whom_clients_find() {
    let lab = Lab::new(3);
    let (high, mut low) = pair(&lab, instance(150), instance(100));
    let macs = [0, 1].map(|host| mac(&lab.hosts[host]));
    let client = &lab.hosts[CLIENT];
    ping_until_answered(client, VIRTUAL.into());
    assert_eq!(neighbour(client, VIRTUAL.into()), macs[0]);
    for _ in 0..2 {
        lab.cut_off(0);
        low.wait_for(Master);
        eventually("the client finds the other one", || {
            ping_until_answered(client, VIRTUAL.into());
            neighbour(client, VIRTUAL.into()) == macs[1]
        });
        assert_eq!(lab.holders(), [0, 1]);

        let announced = lab.folder.path().join("announced");
        let capture = lab.capture(0, &format!("{REQUEST} and arp host {VIRTUAL}"), &announced);
        let healed = Instant::now();
        lab.connect_again(0);
        lab.wait_for_holder(0);
        assert!(healed.elapsed() < HEALED, "{:?}", healed.elapsed());
        eventually("it is announced again", || std::fs::metadata(&announced).unwrap().len() > HEADER);
        eventually("the client finds the first one", || neighbour(client, VIRTUAL.into()) == macs[0]);
        ping_until_answered(client, VIRTUAL.into());
        capture.terminate();
        low.wait_for(Backup);
    }
    assert_eq!(high.status().transitions[&Master], 1);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn clients_know_the_virtual_mac_alone_and_pings_go_on_while_it_moves() {
    const PINGS: usize = 100;
    let lab = Lab::new(3);
    lab.add_ipv6();
    let v6: IpAddr = V6.parse().unwrap();
    let both = |priority| {
        let mut both = Instance { virtual_mac: true, ..instance(priority) };
        both.addresses.push(Prefix { address: v6, length: 64 }.into());
        both
    };
    let client = &lab.hosts[CLIENT];
    let backups_replies = lab.folder.path().join("replies");
    let capture = lab.capture(1, REPLY, &backups_replies);
    let (high, mut low) = pair(&lab, both(150), both(100));
    lab.wait_for_holder(0);
    let table = [(IpAddr::from(VIRTUAL), "00:00:5e:00:01:33"), (v6, "00:00:5e:00:02:33")];
    let assert_known = || {
        for (address, mac) in table {
            ping_until_answered(client, address);
            assert_eq!(neighbour(client, address), mac, "{address}");
        }
        let arping = client.output(&["arping", "-b", "-c", "3", "-I", "eth0", &VIRTUAL.to_string()]);
        assert_eq!(arping.matches("reply from 203.0.113.10 [00:00:5E:00:01:33]").count(), 3, "{arping}");
        assert!(arping.contains("Received 3 response(s)"), "{arping}");
    };
    assert_known();
    assert_eq!(std::fs::metadata(&backups_replies).unwrap().len(), HEADER, "the backup answered");
    capture.terminate();

    let pings = table.map(|(address, _)| {
        let address = address.to_string();
        let mut ping =
            client.command(&["ping", "-n", "-i", "0.05", "-W", "1", "-c", &PINGS.to_string(), &address]);
        ping.stdout(Stdio::piped()).spawn().unwrap()
    });
    high.stop();
    low.wait_for(Master);
    lab.wait_for_holder(1);
    for ping in pings {
        let output = String::from_utf8(ping.wait_with_output().unwrap().stdout).unwrap();
        let answered = output.matches("bytes from").count();
        assert!(answered >= PINGS * 9 / 10, "{output}");
    }
    assert_known();
}

fn mac(host: &Host) -> String {
    host.output(&["cat", "/sys/class/net/eth0/address"]).trim().to_owned()
}

/// The MAC address by which a host knows a neighbour, or nothing.
fn neighbour(host: &Host, address: IpAddr) -> String {
    let shown = host.output(&["ip", "neigh", "show", &address.to_string(), "dev", "eth0"]);
    let mut words = shown.split_whitespace().skip_while(|word| *word != "lladdr");
    words.nth(1).unwrap_or_default().to_owned()
}

fn ping_until_answered(host: &Host, address: IpAddr) {
    eventually(&format!("{address} answers"), || {
        let mut ping: Command = host.command(&["ping", "-n", "-c", "1", "-W", "1", &address.to_string()]);
        ping.stdout(Stdio::null()).status().unwrap().success()
    });
}
