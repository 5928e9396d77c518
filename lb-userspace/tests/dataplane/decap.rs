//! `decap`: removes the tunnel header of listed destinations, and touches nothing else.

use std::net::Ipv4Addr;

use lb_common::service::Method;

use crate::fixture::{Action, Node, TUNNEL_SOURCE, tcp, udp};
use crate::packet::{IP, sum_ip_again};

const LISTED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

fn node() -> Node {
    let mut node = Node::new(Method::Tunnel);
    node.plane.decap.add(LISTED.into()).unwrap();
    node
}

fn expect(node: &mut Node, what: &str, frame: &[u8], out: &[u8]) {
    let outcome = node.plane.run("decap", frame, 0).unwrap();
    assert_eq!(outcome.action, Action::Pass as u32, "{what}");
    assert_eq!(outcome.frame, out, "{what}");
}

fn expect_untouched(node: &mut Node, what: &str, frame: &[u8]) {
    expect(node, what, frame, frame);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_was_in_the_tunnel_comes_out_as_it_went_in() {
    let mut node = node();
    for packet in [tcp(), udp(), tcp().payload(b""), tcp().payload(&[1; 1400]), tcp().ttl(1)] {
        expect(&mut node, "listed", &packet.in_tunnel(TUNNEL_SOURCE, LISTED), &packet.bytes());
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_the_balancer_sends_the_backend_gets() {
    let mut node = node();
    let packet = tcp();
    let sent = node.send(&packet).frame;
    let ethernet: [u8; 12] = sent[..12].try_into().unwrap();
    let mut got = packet.ttl(packet.ttl - 1).bytes();
    got[..12].copy_from_slice(&ethernet);
    expect(&mut node, "sent", &sent, &got);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn tunnels_to_other_destinations_stay_closed() {
    let mut node = node();
    for destination in [[10, 0, 0, 11], [10, 0, 10, 0], [0, 0, 0, 0]] {
        expect_untouched(&mut node, "not listed", &tcp().in_tunnel(TUNNEL_SOURCE, destination.into()));
    }
    expect_untouched(&mut node, "no tunnel", &tcp().bytes());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_no_whole_tunnel_packet_stays_as_it_is() {
    let mut node = node();
    let tunnel = tcp().in_tunnel(TUNNEL_SOURCE, LISTED);
    let with = |at: usize, field: &[u8]| {
        let mut frame = tunnel.clone();
        frame[at..at + field.len()].copy_from_slice(field);
        sum_ip_again(&mut frame);
        frame
    };
    for (what, frame) in [
        ("inner IPv6", with(IP + 20, &[0x60])),
        ("inner nothing", with(IP + 20, &[0x05])),
        ("outer with options", with(IP, &[0x46])),
        ("outer too short a header", with(IP, &[0x44])),
        ("outer IPv6", with(IP, &[0x65])),
        ("outer UDP", with(IP + 9, &[17])),
        ("outer IPv6 in IPv4", with(IP + 9, &[41])),
        ("first fragment", with(IP + 6, &[0x20, 0])),
        ("later fragment", with(IP + 6, &[0, 1])),
        ("not IPv4", with(12, &[0x86, 0xdd])),
        ("outer longer than the frame", with(IP + 2, &1400_u16.to_be_bytes())),
        ("outer shorter than both headers", with(IP + 2, &39_u16.to_be_bytes())),
    ] {
        expect_untouched(&mut node, what, &frame);
    }
    for length in IP..tunnel.len() {
        expect_untouched(&mut node, "cut short", &tunnel[..length]);
    }
}
