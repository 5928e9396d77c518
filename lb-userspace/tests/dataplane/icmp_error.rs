//! ICMP errors about packets of flows.

use std::net::Ipv4Addr;

use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode};
use etherparse::{Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header};
use lb_common::reason::Reason;
use lb_common::service::{Method, NO_TABLE};

use crate::fixture::{
    Action, INSIDE_MAC, MTU, NODE_MAC, Node, PREVIOUS_TABLE, ROUTER_MAC, SERVICE, TUNNEL_SOURCE,
    backend_address, backend_mac, reply, request, tcp, udp,
};
use crate::flows::METHODS;
use crate::packet::{FIN, IP, Mac, Packet, RST, SYN, Transport, outer_header};

const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// An IP header and the eight bytes that are promised.
const LEAST: usize = 28;
const TOO_BIG: Icmpv4Type =
    Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 });

/// An error by a router about a packet, that quotes so many bytes of it.
struct Error<'a> {
    kind: Icmpv4Type,
    quoted: &'a Packet,
    bytes: usize,
    sender: Ipv4Addr,
    to_mac: Mac,
    from_mac: Mac,
    ttl: u8,
}

impl Error<'_> {
    fn frame(&self) -> Vec<u8> {
        [&self.to_mac[..], &self.from_mac[..], &[8, 0], &self.ip()].concat()
    }

    fn ip(&self) -> Vec<u8> {
        let packet = self.quoted.ip();
        let quotation = &packet[..self.bytes.min(packet.len())];
        let icmp = Icmpv4Header::with_checksum(self.kind.clone(), quotation);
        let (from, to) = (self.sender.octets(), self.quoted.source.ip().octets());
        let length = (8 + quotation.len()) as u16;
        let mut ip = Ipv4Header::new(length, self.ttl, IpNumber::ICMP, from, to).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        [ip.to_bytes().to_vec(), icmp.to_bytes().to_vec(), quotation.to_vec()].concat()
    }
}

/// What the client sees of the reply: the packet that a router between node and client may refuse.
fn answer(request: &Packet) -> Packet {
    Packet { source: SERVICE, ..reply(request, 0) }
}

/// By a router on the client's side, about an answer to the client.
fn about_answer(quoted: &Packet, bytes: usize) -> Error<'_> {
    Error { kind: TOO_BIG, quoted, bytes, sender: ROUTER, to_mac: NODE_MAC, from_mac: ROUTER_MAC, ttl: 50 }
}

fn open(node: &mut Node, request: &Packet) {
    node.send(request);
    node.send(request);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_about_an_answer_reaches_the_backend_translated_inside_and_out() {
    for transport in [Transport::Tcp(16), Transport::Udp, Transport::UdpWithoutChecksum] {
        for bytes in [LEAST, 40, usize::MAX] {
            let mut node = Node::new(Method::Nat);
            let request = request(transport);
            open(&mut node, &request);
            let quoted = answer(&request);
            let translated = Packet { source: backend_address(0), ..quoted.clone() };
            let arrives = Error {
                to_mac: backend_mac(0),
                from_mac: INSIDE_MAC,
                ttl: 49,
                ..about_answer(&translated, bytes)
            };
            let frame = about_answer(&quoted, bytes).frame();
            node.rows(&[("too big", frame, Action::Transmit, Reason::IcmpError, Some(arrives.frame()))]);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_about_a_rewritten_packet_reaches_the_client_as_one_about_the_service() {
    for (kind, sender) in [
        (Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port), *backend_address(0).ip()),
        (Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit), Ipv4Addr::new(10, 0, 9, 9)),
    ] {
        for request in [tcp(), udp()] {
            let mut node = Node::new(Method::Nat);
            open(&mut node, &request);
            let delivered = Packet { destination: backend_address(0), ..request.clone() };
            let (to_mac, from_mac) = (INSIDE_MAC, backend_mac(0));
            let error = Error {
                kind: kind.clone(),
                quoted: &delivered,
                bytes: LEAST,
                sender,
                to_mac,
                from_mac,
                ttl: 64,
            };
            let arrives = Error {
                quoted: &request,
                kind: kind.clone(),
                sender: *SERVICE.ip(),
                to_mac: ROUTER_MAC,
                from_mac: NODE_MAC,
                ttl: 63,
                ..error
            };
            let frame = error.frame();
            node.rows(&[("error", frame, Action::Transmit, Reason::IcmpError, Some(arrives.frame()))]);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_tunnel_and_direct_an_error_reaches_the_backend_that_answered() {
    for method in [Method::Tunnel, Method::Direct] {
        let mut node = Node::new(method);
        open(&mut node, &tcp());
        let quoted = answer(&tcp());
        let sent =
            Error { to_mac: backend_mac(0), from_mac: INSIDE_MAC, ttl: 49, ..about_answer(&quoted, LEAST) };
        let mut expected = sent.frame();
        if method == Method::Tunnel {
            let inner = expected.split_off(IP);
            expected.extend(outer_header(inner.len() as u16, 0, TUNNEL_SOURCE, *backend_address(0).ip()));
            expected.extend(inner);
        }
        let frame = about_answer(&quoted, LEAST).frame();
        node.rows(&[("too big", frame, Action::Transmit, Reason::IcmpError, Some(expected))]);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_sender_of_a_packet_too_large_for_the_tunnel_is_told_the_size_that_fits() {
    let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
        next_hop_mtu: MTU - 20,
    });
    for request in [tcp(), udp(), tcp().flags(SYN)] {
        let mut node = Node::new(Method::Tunnel);
        let large = request.payload(&vec![7; usize::from(MTU) - 40]);
        let (to_mac, from_mac) = (ROUTER_MAC, NODE_MAC);
        let answer = Error {
            kind: kind.clone(),
            quoted: &large,
            bytes: LEAST,
            sender: *SERVICE.ip(),
            to_mac,
            from_mac,
            ttl: 64,
        };
        let frame = answer.frame();
        for _ in 0..3 {
            let row = (
                "too large",
                large.bytes(),
                Action::Transmit,
                Reason::FragmentationNeeded,
                Some(frame.clone()),
            );
            node.rows(&[row]);
        }
        assert_eq!(node.plane.counters.read(0).unwrap().packets, 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_a_flow_the_error_goes_where_the_flow_would() {
    for method in METHODS {
        let mut node = Node::new(method);
        let frame = about_answer(&answer(&tcp()), LEAST).frame();
        assert_eq!(node.send_bytes(&frame).reason, Reason::IcmpError);
        assert!(node.flows().is_empty());
        node.service(NO_TABLE, PREVIOUS_TABLE);
        node.rows(&[("nobody", frame, Action::Drop, Reason::NoBackend, None)]);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_moves_and_ends_no_flow() {
    let mut node = Node::new(Method::Nat);
    open(&mut node, &tcp());
    let before = node.flows();
    for flags in [SYN, FIN, RST] {
        let quoted = Packet { payload: Vec::new(), ..answer(&tcp().flags(flags)) };
        assert_eq!(node.send_bytes(&about_answer(&quoted, 48).frame()).reason, Reason::IcmpError);
    }
    assert_eq!(node.flows(), before);
    node.expect("the flow", &tcp(), Reason::Flow, 0);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_no_error_about_a_flow_is_the_kernels() {
    let mut node = Node::new(Method::Nat);
    open(&mut node, &tcp());
    let quoted = answer(&tcp());
    let error = about_answer(&quoted, LEAST);
    let frame = error.frame();
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = frame.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let quotation = IP + 20 + 8;
    let rows = [
        ("echo request", with(IP + 20, &[8])),
        ("not to the sender of what it quotes", with(IP + 16, &[203, 0, 113, 99])),
        ("quotes a later fragment", with(quotation + 6, &[0, 1])),
        ("quotes IPv6", with(quotation, &[0x60])),
        ("quotes a header that is too short", with(quotation, &[0x44])),
        ("quotes another protocol", with(quotation + 9, &[47])),
        (
            "quotes a client without a flow and a service without a name",
            with(quotation + 12, &[203, 0, 113, 98]),
        ),
    ];
    for (what, frame) in rows {
        let seen = node.send_bytes(&frame);
        assert_eq!((seen.action, seen.reason, seen.frame), (2, Reason::OtherProtocol, frame), "{what}");
    }
    for length in IP + 20..frame.len() {
        let seen = node.send_bytes(&frame[..length]);
        assert_eq!((seen.action, seen.frame.as_slice()), (2, &frame[..length]), "cut to {length}");
    }
}
