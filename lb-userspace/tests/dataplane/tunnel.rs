//! `tunnel`: an outer header in front, and `direct`: nothing but MAC addresses and the time to live.

use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4Header};
use lb_common::backend::Backend;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::fixture::{Action, MTU, Node, TUNNEL_SOURCE, backend, reply, request, tcp, udp};
use crate::packet::{FIN, IP, Packet, RST, SYN, Transport};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn packets_reach_the_backend_whole_by_tunnel_and_direct() {
    for method in [Method::Tunnel, Method::Direct] {
        let mut node = Node::new(method);
        node.establish(&tcp(), 0);
        for (what, packet) in [
            ("no payload", tcp().payload(b"")),
            ("odd payload", tcp().payload(b"odd")),
            ("type of service", Packet { tos: 0xb9, ..tcp() }),
            ("congestion experienced", Packet { tos: 3, ..tcp() }),
            ("may be fragmented", Packet { dont_fragment: false, ..tcp() }),
            ("IP options", Packet { options: vec![1; 40], ..tcp() }),
            ("longest life", tcp().ttl(255)),
            ("two hops left", tcp().ttl(2)),
            ("FIN", tcp().flags(FIN)),
        ] {
            node.expect(what, &packet, Reason::Flow, 0);
        }
        for transport in [Transport::Udp, Transport::UdpWithoutChecksum] {
            let packet = request(transport).port(if transport == Transport::Udp { 100 } else { 101 });
            for reason in [Reason::Opening, Reason::NewFlow, Reason::Flow] {
                node.expect("UDP", &packet, reason, 0);
            }
        }
        for ttl in [0, 1] {
            let row = ("no hop left", tcp().ttl(ttl).bytes(), Action::Drop, Reason::TtlExceeded, None);
            node.rows(&[row]);
        }
    }
}

/// One hop less is 0x0100 more in the header's checksum: 0xfeff becomes 0xffff, which is written as 0 (RFC 1624 section 3).
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_hop_that_is_counted_carries_over_in_the_header_checksum() {
    let carries = |packet: &Packet| packet.bytes()[IP + 10..IP + 12] == [0xfe, 0xff];
    let packet = (2..=255)
        .flat_map(|ttl| (0..=255).map(move |length| tcp().ttl(ttl).payload(&vec![7; length])))
        .find(carries)
        .expect("life and length make any sum");
    for method in [Method::Tunnel, Method::Direct] {
        let mut node = Node::new(method);
        node.establish(&tcp(), 0);
        node.expect("carries over", &packet, Reason::Flow, 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn outer_header_says_what_rfc_2003_asks_for() {
    let mut node = Node::new(Method::Tunnel);
    let packet = Packet { tos: 0xb9, dont_fragment: false, ..tcp() };
    let seen = node.send(&packet);
    let (outer, inner) = Ipv4Header::from_slice(&seen.frame[IP..]).unwrap();
    assert_eq!(outer.header_checksum, outer.calc_header_checksum());
    assert_eq!(outer.protocol, IpNumber::IPV4);
    assert_eq!(Ipv4Addr::from(outer.source), TUNNEL_SOURCE);
    assert_eq!(outer.destination, [10, 0, 0, 10]);
    assert_eq!((outer.dscp.value(), outer.ecn.value()), (0xb9 >> 2, 0xb9 & 3));
    assert!(outer.dont_fragment && !outer.more_fragments);
    assert_eq!((outer.time_to_live, outer.ihl()), (64, 5));
    assert_eq!(usize::from(outer.total_len), 20 + inner.len());
    let (inner, _) = Ipv4Header::from_slice(inner).unwrap();
    assert_eq!(inner.header_checksum, inner.calc_header_checksum());
    assert_eq!((inner.time_to_live, inner.dont_fragment), (packet.ttl - 1, false));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_does_not_fit_into_the_tunnel_is_dropped_where_its_sender_cannot_be_told() {
    let mut node = Node::new(Method::Tunnel);
    let fits = usize::from(MTU) - 20 - 20 - 20;
    node.establish(&tcp().payload(&vec![7; fits]), 0);
    let larger = tcp().payload(&vec![7; fits + 1]);
    let fragments = Packet { dont_fragment: false, ..larger.clone() };
    let options = Packet { options: vec![1; 4], ..larger };
    for packet in [fragments, options] {
        node.rows(&[("a byte more", packet.bytes(), Action::Drop, Reason::TooBig, None)]);
    }
    node.backend(0, &Backend { mtu: 60, ..backend(0) });
    node.rows(&[("no way takes so little", tcp().bytes(), Action::Drop, Reason::TooBig, None)]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_padded_frame_keeps_its_padding_and_tells_the_length_of_its_packet() {
    for method in [Method::Tunnel, Method::Direct, Method::Nat] {
        let mut node = Node::new(method);
        let packet = tcp().payload(b"");
        let out = crate::fixture::delivered(&packet, method, 0);
        let padded = |bytes: Vec<u8>| [bytes, vec![0x55; 6]].concat();
        for reason in [Reason::Opening, Reason::NewFlow, Reason::Flow] {
            let row = ("padded", padded(packet.bytes()), Action::Transmit, reason, Some(padded(out.clone())));
            node.rows(&[row]);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn only_what_opens_a_connection_twice_over_leaves_state() {
    for method in [Method::Tunnel, Method::Direct] {
        let mut node = Node::new(method);
        for port in 1..=500 {
            node.expect("SYN", &tcp().port(port).flags(SYN), Reason::Opening, 0);
            node.expect("RST of nothing", &tcp().port(port).flags(RST), Reason::Untracked, 0);
            node.expect("first UDP packet", &udp().port(port), Reason::Opening, 0);
        }
        assert_eq!(node.flows(), []);
        node.establish(&tcp(), 0);
        assert_eq!(node.flows().len(), 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn answers_do_not_come_this_way() {
    for method in [Method::Tunnel, Method::Direct] {
        let mut node = Node::new(method);
        node.establish(&tcp(), 0);
        let answer = reply(&tcp(), 0).bytes();
        node.rows(&[("not rewritten", answer, Action::Pass, Reason::NoService, None)]);
    }
}
