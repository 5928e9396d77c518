//! `nat`: destination rewritten on the way in, source on the way back, and every checksum right.

use lb_common::backend::{NextHop, SERVING};
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::fixture::{
    Action, Node, ROUTER_MAC, backend, backend_mac, delivered, reply, request, returned, tcp, udp,
};
use crate::packet::{ACK, Packet, SYN, TRANSPORT, Transport};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn request_and_reply_are_rewritten_with_right_checksums() {
    let mut node = Node::new(Method::Nat);
    node.establish(&tcp(), 0);
    for (what, request) in [
        ("TCP", tcp()),
        ("TCP without payload", tcp().payload(b"")),
        ("TCP with a payload of odd length", tcp().payload(b"odd")),
        ("TCP with a full packet", tcp().payload(&[0xa5; 1460])),
        ("TCP with IP options", Packet { options: vec![1; 8], ..tcp() }),
        ("TCP with all the IP options there can be", Packet { options: vec![1; 40], ..tcp() }),
        ("TCP that may be fragmented", Packet { dont_fragment: false, ..tcp() }),
        ("TCP with a type of service", Packet { tos: 0xb9, ..tcp() }),
        ("TCP with the longest life", tcp().ttl(255)),
        ("TCP with two hops left", tcp().ttl(2)),
    ] {
        let back = reply(&request, 0).flags(ACK);
        node.expect(what, &request.port(41_000).flags(SYN), Reason::Opening, 0);
        node.expect(what, &request, Reason::Flow, 0);
        node.expect_reply(what, &back);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn udp_is_rewritten_with_right_checksums() {
    for payload in [&b""[..], b"o", b"even", &[0xff; 1472]] {
        let mut node = Node::new(Method::Nat);
        let request = udp().payload(payload);
        node.expect("first", &request, Reason::Opening, 0);
        node.expect_reply("answer to the first", &reply(&request, 0).payload(payload));
        node.establish(&request, 0);
        node.expect("third", &request, Reason::Flow, 0);
        node.expect_reply("answer", &reply(&request, 0).payload(payload));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn udp_without_checksum_stays_without() {
    let mut node = Node::new(Method::Nat);
    let request = request(Transport::UdpWithoutChecksum);
    node.expect("first", &request, Reason::Opening, 0);
    node.establish(&request, 0);
    node.expect("third", &request, Reason::Flow, 0);
    node.expect_reply("answer", &reply(&request, 0));
}

/// Over all values of one word of payload, the checksum after the rewrite takes every value, 0 among them.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
    let mut node = Node::new(Method::Nat);
    let checksum = |frame: &[u8]| [frame[TRANSPORT + 6], frame[TRANSPORT + 7]];
    let all_ones = |request: &Packet| checksum(&delivered(request, Method::Nat, 0)) == [0xff, 0xff];
    let request = (0..=u16::MAX)
        .map(|word| udp().payload(&word.to_be_bytes()))
        .find(all_ones)
        .expect("one word of 65,536 makes any sum");
    for reason in [Reason::Opening, Reason::NewFlow, Reason::Flow] {
        node.expect("all ones out", &request, reason, 0);
    }
    let back = |word: u16| reply(&request, 0).payload(&word.to_be_bytes());
    let back = (0..=u16::MAX).map(back).find(|back| checksum(&returned(back)) == [0xff, 0xff]).unwrap();
    node.expect_reply("all ones out", &back);
    let back = |word: u16| reply(&request, 0).payload(&word.to_be_bytes());
    let back = (0..=u16::MAX).map(back).find(|back| checksum(&back.bytes()) == [0xff, 0xff]).unwrap();
    node.expect_reply("all ones in", &back);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_checksum_a_tcp_packet_can_carry_is_updated_to_the_right_one() {
    let mut node = Node::new(Method::Nat);
    node.establish(&tcp(), 0);
    for word in (0..=u16::MAX).step_by(13) {
        let request = tcp().payload(&word.to_be_bytes());
        let seen = node.plane.run("evenkeel", &request.bytes(), 0).unwrap();
        assert_eq!(seen.frame, delivered(&request, Method::Nat, 0), "{word}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_packet_without_a_hop_left_is_dropped_in_both_directions() {
    let mut node = Node::new(Method::Nat);
    node.establish(&tcp(), 0);
    let row = |packet: Packet| ("no hop left", packet.bytes(), Action::Drop, Reason::TtlExceeded, None);
    for ttl in [0, 1] {
        node.rows(&[
            row(tcp().ttl(ttl)),
            row(reply(&tcp(), 0).ttl(ttl)),
            row(tcp().port(41_000).ttl(ttl)),
            row(udp().ttl(ttl)),
        ]);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn replies_go_back_the_way_the_last_request_came() {
    let mut node = Node::new(Method::Nat);
    node.establish(&tcp(), 0);
    node.expect_reply("by the first router", &reply(&tcp(), 0));
    let other_router = [2, 0, 0, 0, 0, 99];
    node.expect("by another router", &Packet { from_mac: other_router, ..tcp() }, Reason::Flow, 0);
    let back = reply(&tcp(), 0);
    let mut out = returned(&back);
    assert_eq!(out[..6], ROUTER_MAC);
    out[..6].copy_from_slice(&other_router);
    node.rows(&[("by the other router", back.bytes(), Action::Transmit, Reason::Reply, Some(out))]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_backend_whose_next_hop_is_unknown_gets_nothing_until_it_is_known() {
    let mut node = Node::new(Method::Nat);
    let unresolved =
        |packet: Packet| ("unresolved", packet.bytes(), Action::Drop, Reason::NextHopUnresolved, None);
    node.establish(&tcp(), 0);
    let record = backend(0);
    node.backend(0, &lb_common::backend::Backend { flags: SERVING, ..record });
    node.rows(&[unresolved(tcp()), unresolved(tcp().port(41_000).flags(SYN)), unresolved(udp())]);
    let moved = NextHop { destination: backend_mac(9), ..record.next_hop };
    node.backend(0, &lb_common::backend::Backend { next_hop: moved, ..record });
    let mut out = delivered(&tcp(), Method::Nat, 0);
    out[..6].copy_from_slice(&backend_mac(9));
    node.rows(&[("resolved", tcp().bytes(), Action::Transmit, Reason::Flow, Some(out))]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_next_hop_behind_an_interface_that_is_not_listed_gets_nothing() {
    let mut node = Node::new(Method::Nat);
    let record = backend(0);
    let elsewhere = NextHop { ifindex: 4711, ..record.next_hop };
    node.backend(0, &lb_common::backend::Backend { next_hop: elsewhere, ..record });
    for what in ["first", "flow"] {
        node.rows(&[(what, tcp().bytes(), Action::Drop, Reason::InterfaceNotListed, None)]);
    }
}
