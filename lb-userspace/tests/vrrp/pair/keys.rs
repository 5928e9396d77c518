//! Signed advertisements, and senders that have no business here.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use evenkeel::config::model::{Authentication, Instance, Key, Secret, Unicast};
use evenkeel::status::InstanceState::Master;
use evenkeel::vrrp::wire;
use socket2::InterfaceIndexOrAddress;

use super::{pair, some_more, transitions};
use crate::lab::{Host, LIMIT, Lab, eventually, instance};
use crate::{claim, raw_socket, tshark};

/// Numbers of keys; the secret of each depends on `seed`.
fn signed(priority: u8, keys: &[u8], seed: u8) -> Instance {
    let key = |id: &u8| Key { id: *id, secret: Secret(vec![*id ^ seed; 32]) };
    let keys = keys.iter().map(key).collect();
    Instance { authentication: Some(Authentication::Keys { keys, required: true }), ..instance(priority) }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn keys_are_rotated_on_one_node_after_the_other_without_a_transition() {
    let lab = Lab::new(2);
    let (high, low) = pair(&lab, signed(150, &[1], 0), signed(100, &[1], 0));
    let before = (transitions(&high), transitions(&low));
    let file = lab.folder.path().join("sent.pcap");
    let capture = lab.capture(0, "ip proto 112", &file);
    let steps: [&[u8]; 4] = [&[1, 2], &[2, 1], &[2], &[2, 3]];
    for keys in steps {
        high.handle.reconfigure(vec![signed(150, keys, 0)]);
        some_more(&high, &low);
        low.handle.reconfigure(vec![signed(100, keys, 0)]);
        some_more(&high, &low);
    }
    assert_eq!((transitions(&high), transitions(&low)), before);
    high.assert_nothing_ignored();
    low.assert_nothing_ignored();
    assert_eq!(lab.holders(), [0]);
    capture.terminate();
    let read = tshark::read(&file, wire::Checksum::Message, &["vrrp.checksum.status", "_ws.malformed"]);
    let well_formed = format!("{};", tshark::GOOD);
    assert!(read.len() > 10 && read.iter().all(|line| *line == well_formed), "{read:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn nodes_with_different_secrets_do_not_obey_each_other_and_say_so() {
    let lab = Lab::new(2);
    let mut high = lab.hosts[0].start(signed(150, &[1], 0));
    let mut low = lab.hosts[1].start(signed(100, &[1], 0x55));
    high.wait_for(Master);
    low.wait_for(Master);
    for node in [&high, &low] {
        eventually("the other's are refused", || node.status().discarded["bad_auth"] > 10);
        assert_eq!((node.status().state, node.status().advertisements_received), (Master, 0));
        // What `evenkeel status` warns of.
        assert_eq!(node.status().last_discarded.map(|last| last.reason).as_deref(), Some("bad_auth"));
    }
    low.handle.reconfigure(vec![signed(100, &[2], 0)]);
    eventually("a key without a number here", || high.status().discarded["unknown_key"] > 0);
    let unsigned = claim(51, lab.hosts[1].address);
    lab.hosts[1].run(|| crate::send(&raw_socket(), &unsigned));
    eventually("one that is not signed", || high.status().discarded["no_auth"] == 1);
    low.handle.reconfigure(vec![signed(100, &[1], 0)]);
    lab.wait_for_holder(0);
    assert_eq!(high.status().transitions[&Master], 1);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_signed_advertisement_that_is_sent_again_changes_nothing() {
    let lab = Lab::new(3);
    let (high, mut low) = pair(&lab, signed(150, &[1], 0), signed(100, &[1], 0));
    let heard = overhear(&lab.hosts[2], lab.hosts[0].address);
    high.stop();
    low.wait_for(Master);
    lab.wait_for_holder(1);
    let replayed = low.status().discarded["replayed"];
    let received = low.status().advertisements_received;
    lab.hosts[2].run(|| {
        let socket = raw_socket();
        (0..3).for_each(|_| crate::send(&socket, &heard));
    });
    eventually("they are refused", || low.status().discarded["replayed"] == replayed + 3);
    assert_eq!(low.status().advertisements_received, received);
    assert_eq!((low.status().state, low.status().second_masters), (Master, 0));
}

/// An advertisement of `sender`, with its IP header.
fn overhear(host: &Host, sender: Ipv4Addr) -> Vec<u8> {
    host.run(|| {
        let mut socket = raw_socket();
        socket.join_multicast_v4_n(&wire::GROUP, &InterfaceIndexOrAddress::Address(host.address)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        loop {
            let mut buffer = [0; 1500];
            let length = socket.read(&mut buffer).unwrap();
            if buffer[12..16] == sender.octets() {
                return buffer[..length].to_vec();
            }
        }
    })
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_comes_to_one_node_alone_counts_from_its_peers_only() {
    let lab = Lab::new(4);
    let unicast = |priority, peer: usize| Instance {
        unicast: Some(Unicast { peers: vec![lab.hosts[peer].address.into()], sources: vec![], min_ttl: 255 }),
        ..instance(priority)
    };
    let (high, low) = pair(&lab, unicast(150, 1), unicast(100, 0));
    let before = (transitions(&high), transitions(&low));
    let send = |destination: Ipv4Addr| {
        let mut packet = claim(51, lab.hosts[2].address);
        // The kernel computes the checksum of the header.
        packet[16..20].copy_from_slice(&destination.octets());
        lab.hosts[2].run(|| {
            raw_socket().send_to(&packet, &SocketAddrV4::new(destination, 0).into()).unwrap();
        });
    };
    send(lab.hosts[0].address);
    eventually("the stranger is counted", || high.status().discarded["unknown_peer"] == 1);
    let mut group = lab.hosts[3].start(instance(50));
    group.wait_for(Master);
    send(lab.hosts[3].address);
    eventually("what was not sent to the group is counted", || group.status().discarded["unicast"] == 1);
    some_more(&high, &low);
    assert_eq!((transitions(&high), transitions(&low)), before);
}
