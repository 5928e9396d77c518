//! What is not the balancer's: the kernel gets it as it came. The fixture holds that a packet that is passed is
//! unchanged.

use etherparse::{EtherType, Ethernet2Header};
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::fixture::{Action, NODE_MAC, Node, ROUTER_MAC, TUNNEL_SOURCE, backend_address, tcp, udp};
use crate::flows::METHODS;
use crate::packet::{IP, Packet, SYN, TRANSPORT, sum_ip_again};

/// A node with one flow of each protocol, and the packets that hit them.
fn busy(method: Method) -> (Node, [Vec<u8>; 2]) {
    let mut node = Node::new(method);
    node.send(&tcp());
    node.send(&tcp());
    node.send(&udp());
    node.send(&udp());
    (node, [tcp().bytes(), udp().bytes()])
}

/// The frame with a field overwritten and the IP checksum right again.
fn with(frame: &[u8], at: usize, field: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + field.len()].copy_from_slice(field);
    sum_ip_again(&mut frame);
    frame
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_frame_cut_short_at_any_byte_is_passed() {
    for method in METHODS {
        let (mut node, [tcp, udp]) = busy(method);
        let ipip = self::tcp().in_tunnel(TUNNEL_SOURCE, *backend_address(0).ip());
        for frame in [&tcp, &udp, &ipip] {
            // The kernel itself takes no frame without an Ethernet header.
            for length in IP..frame.len() {
                node.rows(&[("cut", frame[..length].to_vec(), Action::Pass, Reason::Malformed, None)]);
            }
        }
        for packet in [self::tcp().port(41_000).flags(SYN), self::udp().port(41_000)] {
            let frame = packet.bytes();
            for length in IP..frame.len() {
                node.rows(&[(
                    "cut, no flow",
                    frame[..length].to_vec(),
                    Action::Pass,
                    Reason::Malformed,
                    None,
                )]);
            }
        }
    }
}

/// The IP header agrees with the end of the frame, so only the transport header tells that something is missing.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_packet_that_ends_inside_its_transport_header_is_passed() {
    for method in METHODS {
        let (mut node, frames) = busy(method);
        for (frame, header) in frames.iter().zip([20, 8]) {
            for length in TRANSPORT..frame.len() {
                let cut = &frame[..length];
                let cut = with(cut, IP + 2, &((length - IP) as u16).to_be_bytes());
                // A TCP segment may end anywhere after its header; a datagram says how long it is.
                if header == 20 && length >= TRANSPORT + header {
                    assert_eq!(node.send_bytes(&cut).reason, Reason::Flow);
                } else {
                    node.rows(&[("ends", cut, Action::Pass, Reason::Malformed, None)]);
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_ip_header_length_that_lies_is_passed() {
    for method in METHODS {
        let (mut node, frames) = busy(method);
        for frame in &frames {
            for words in (0..16).filter(|words| *words != 5) {
                let lying = with(frame, IP, &[0x40 | words]);
                let seen = node.send_bytes(&lying);
                let truth = if words < 5 {
                    vec![Reason::Malformed]
                } else {
                    vec![Reason::Malformed, Reason::NoService]
                };
                assert!(truth.contains(&seen.reason), "{words}: {:?}", seen.reason);
            }
            for version in (0..16).filter(|version| *version != 4) {
                let lying = with(frame, IP, &[version << 4 | 5]);
                node.rows(&[("version", lying, Action::Pass, Reason::Malformed, None)]);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_total_length_that_lies_is_passed() {
    for method in METHODS {
        let (mut node, frames) = busy(method);
        for (frame, least) in frames.iter().zip([40, frames[1].len() - IP]) {
            for length in (0..least).chain(frame.len() - IP + 1..2048).chain([65_535]) {
                let lying = with(frame, IP + 2, &(length as u16).to_be_bytes());
                node.rows(&[("total length", lying, Action::Pass, Reason::Malformed, None)]);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_udp_length_or_tcp_data_offset_that_lies_is_passed() {
    for method in METHODS {
        let (mut node, [tcp, udp]) = busy(method);
        let there = udp.len() - TRANSPORT;
        for length in (0..8).chain(there + 1..2048).chain([65_535]) {
            let lying = with(&udp, TRANSPORT + 4, &(length as u16).to_be_bytes());
            node.rows(&[("UDP length", lying, Action::Pass, Reason::Malformed, None)]);
        }
        let there = tcp.len() - TRANSPORT;
        for words in (0..5).chain(there as u8 / 4 + 1..16) {
            let lying = with(&tcp, TRANSPORT + 12, &[words << 4]);
            node.rows(&[("data offset", lying, Action::Pass, Reason::Malformed, None)]);
        }
    }
}

/// RFC 791 section 3.1: it must be zero, and is no reason to take a packet for a fragment.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_reserved_bit_beside_the_fragment_offset_changes_nothing() {
    for method in METHODS {
        let (mut node, frames) = busy(method);
        for frame in &frames {
            let reserved = with(frame, IP + 6, &0x8000_u16.to_be_bytes());
            assert_eq!(node.send_bytes(&reserved).reason, Reason::Flow);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn other_protocols_are_passed() {
    let (mut node, [tcp, _]) = busy(Method::Nat);
    for protocol in (0..=255).filter(|protocol| ![6, 17].contains(protocol)) {
        let other = with(&tcp, IP + 9, &[protocol]);
        node.rows(&[("protocol", other, Action::Pass, Reason::OtherProtocol, None)]);
    }
    let ipip = self::tcp().in_tunnel(TUNNEL_SOURCE, *backend_address(0).ip());
    node.rows(&[("a tunnel", ipip, Action::Pass, Reason::OtherProtocol, None)]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_neither_ipv4_nor_ipv6_is_passed() {
    let (mut node, [tcp, _]) = busy(Method::Nat);
    let types = [EtherType::ARP, EtherType(0x0007), EtherType(0x0008), EtherType(0xffff)];
    let header = |ether_type| {
        Ethernet2Header { source: ROUTER_MAC, destination: NODE_MAC, ether_type }.to_bytes().to_vec()
    };
    for ether_type in types {
        let tagged = [&header(ether_type)[..], &[0, 5, 8, 0], &tcp[IP..]].concat();
        let bare = [&header(ether_type)[..], &tcp[IP..]].concat();
        for frame in [tagged, bare, header(ether_type)] {
            node.rows(&[("not IP", frame, Action::Pass, Reason::NotIp, None)]);
        }
    }
    let lying = [&header(EtherType::IPV6)[..], &tcp[IP..]].concat();
    node.rows(&[
        ("IPv4 that says it is IPv6", lying, Action::Pass, Reason::Malformed, None),
        ("nothing behind it", header(EtherType::IPV6), Action::Pass, Reason::Malformed, None),
    ]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_for_no_service_is_passed() {
    let mut node = Node::new(Method::Nat);
    let port = std::net::SocketAddrV4::new(*tcp().destination.ip(), 81);
    let address = std::net::SocketAddrV4::new([203, 0, 113, 11].into(), 80);
    for destination in [port, address] {
        for packet in [tcp(), tcp().flags(SYN), udp()] {
            let frame = Packet { destination, ..packet }.bytes();
            node.rows(&[("not listed", frame, Action::Pass, Reason::NoService, None)]);
        }
    }
}
