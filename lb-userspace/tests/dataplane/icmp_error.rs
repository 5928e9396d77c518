//! ICMP errors about packets of flows.

use std::net::{IpAddr, SocketAddr};

use evenkeel::desired::SourcePrefix;
use lb_common::addr::Addr;
use lb_common::backend::SERVING;
use lb_common::reason::Reason;
use lb_common::service::{
    DENY_OTHERS, LISTS, MOVED, Method, NO_TABLE, PER_PACKET, SOURCE_ALLOWED, SOURCE_DENIED, Scheduler,
    Service,
};

use crate::dual::{
    METHODS, NUMBER, ROUTER, Segment, address, answered, backend_record, client, delivered, frame, icmp,
    node, open, request, server, service, tagged,
};
use crate::fixture::{Action, INSIDE_MAC, NODE_MAC, Node, ROUTER_MAC, backend_mac};
use crate::packet::{FIN, RST, SYN};

/// Type and code, and what follows the checksum.
const ERRORS4: [[u8; 6]; 9] = [
    [3, 0, 0, 0, 0, 0],
    [3, 1, 0, 0, 0, 0],
    [3, 3, 0, 0, 0, 0],
    [3, 4, 0, 0, 5, 120],
    [3, 13, 0, 0, 0, 0],
    [11, 0, 0, 0, 0, 0],
    [11, 1, 0, 0, 0, 0],
    [12, 0, 4, 0, 0, 0],
    [12, 1, 0, 0, 0, 0],
];
const ERRORS6: [[u8; 6]; 9] = [
    [1, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0],
    [1, 4, 0, 0, 0, 0],
    [2, 0, 0, 0, 5, 120],
    [3, 0, 0, 0, 0, 0],
    [3, 1, 0, 0, 0, 0],
    [4, 0, 0, 0, 0, 6],
    [4, 1, 0, 0, 0, 6],
    [4, 2, 0, 0, 0, 40],
];
/// Bytes of the quotation that are promised behind its IP header.
const LEAST: usize = 8;

const fn errors(v6: bool) -> [[u8; 6]; 9] {
    if v6 { ERRORS6 } else { ERRORS4 }
}

const fn header(v6: bool) -> usize {
    if v6 { 40 } else { 20 }
}

/// An error that quotes so many bytes behind the IP header.
fn about(quoted: &Segment, kind: [u8; 6], bytes: usize, sender: IpAddr, hops: u8) -> Vec<u8> {
    let packet = quoted.ip();
    let end = header(quoted.source.is_ipv6()).saturating_add(bytes).min(packet.len());
    icmp(sender, quoted.source.ip(), hops, kind, &packet[..end])
}

/// What the client gets for `request`.
fn answer(request: &Segment) -> Segment {
    let Segment { source, destination, .. } = *request;
    Segment {
        source: destination,
        destination: source,
        payload: b"from the backend".to_vec(),
        ..request.clone()
    }
}

/// By a router on the client's side, about an answer to the client.
fn about_answer(quoted: &Segment, kind: [u8; 6], bytes: usize) -> Vec<u8> {
    let router = address(quoted.source.is_ipv6(), ROUTER);
    frame(NODE_MAC, ROUTER_MAC, &about(quoted, kind, bytes, router, 50))
}

/// That error as the backend gets it, which takes `peer` for the client.
fn arriving(quoted: &Segment, kind: [u8; 6], bytes: usize, method: Method, peer: SocketAddr) -> Vec<u8> {
    let v6 = quoted.source.is_ipv6();
    let rewritten = matches!(method, Method::Nat | Method::FullNat);
    let source = if rewritten { server(v6) } else { quoted.source };
    let sender = if method == Method::FullNat { peer.ip() } else { address(v6, ROUTER) };
    let quoted = Segment { source, destination: peer, ..quoted.clone() };
    delivered(v6, method, &about(&quoted, kind, bytes, sender, 49))
}

fn expect(node: &mut Node, what: &str, frame: Vec<u8>, expected: Vec<u8>) {
    node.rows(&[(what, frame, Action::Transmit, Reason::IcmpError, Some(expected))]);
}

fn pass(node: &mut Node, what: &str, frame: &[u8]) {
    node.rows(&[(what, frame.to_vec(), Action::Pass, Reason::OtherProtocol, Some(frame.to_vec()))]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_about_an_answer_reaches_the_backend_as_the_flow_does() {
    for (v6, tcp) in [(false, true), (false, false), (true, true), (true, false)] {
        for method in METHODS {
            // Among the half-open flows, if it must be remembered, and in the flow table.
            for packets in [1, 2] {
                let mut node = node(v6, method, |_| ());
                let request = request(v6, tcp);
                let peer = open(&mut node, method, &request, packets);
                let quoted = answer(&request);
                for kind in errors(v6) {
                    for bytes in [LEAST, 12, 16, 18, 20, 32, usize::MAX] {
                        let what = format!("{method:?} tcp {tcp} {kind:?} {bytes}");
                        let error = about_answer(&quoted, kind, bytes);
                        expect(&mut node, &what, error, arriving(&quoted, kind, bytes, method, peer));
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_about_a_rewritten_packet_reaches_the_client_as_one_about_the_service() {
    for (v6, tcp) in [(false, true), (false, false), (true, true), (true, false)] {
        for method in [Method::Nat, Method::FullNat] {
            for packets in [1, 2] {
                let mut node = node(v6, method, |_| ());
                let request = request(v6, tcp);
                let peer = open(&mut node, method, &request, packets);
                let rewritten = Segment { source: peer, destination: server(v6), ..request.clone() };
                for kind in errors(v6) {
                    for (bytes, sender) in [(LEAST, server(v6).ip()), (usize::MAX, address(v6, ROUTER))] {
                        let error = about(&rewritten, kind, bytes, sender, 64);
                        let arrives = about(&request, kind, bytes, service(v6).ip(), 63);
                        let frame = frame(INSIDE_MAC, backend_mac(0), &error);
                        expect(&mut node, &format!("{method:?} {kind:?}"), frame, answered(&arrives));
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_ipv4_quotation_keeps_that_its_sender_did_not_sum_udp() {
    let mut node = node(false, Method::Nat, |_| ());
    let request = request(false, false);
    open(&mut node, Method::Nat, &request, 2);
    let without = |segment: &Segment, sender, hops| {
        let mut packet = segment.ip();
        packet[26..28].fill(0);
        icmp(sender, segment.source.ip(), hops, ERRORS4[0], &packet)
    };
    let (quoted, router) = (answer(&request), address(false, ROUTER));
    let translated = Segment { source: server(false), ..quoted.clone() };
    let error = frame(NODE_MAC, ROUTER_MAC, &without(&quoted, router, 50));
    expect(&mut node, "no checksum", error, delivered(false, Method::Nat, &without(&translated, router, 49)));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_a_flow_the_error_goes_where_the_service_would_send_it() {
    for v6 in [false, true] {
        let (quoted, kind) = (answer(&request(v6, true)), errors(v6)[3]);
        let error = about_answer(&quoted, kind, LEAST);
        for method in [Method::Nat, Method::Tunnel, Method::Direct] {
            let mut node = node(v6, method, |_| ());
            let arrives = arriving(&quoted, kind, LEAST, method, quoted.destination);
            expect(&mut node, "by the table", error.clone(), arrives);
            let gone =
                Service { table: NO_TABLE, previous: NO_TABLE, method: method as u8, ..Service::default() };
            node.plane.services.write(NUMBER, &gone).unwrap();
            node.rows(&[("nobody", error.clone(), Action::Drop, Reason::NoBackend, None)]);
        }
        let mut fullnat = node(v6, Method::FullNat, |_| ());
        pass(&mut fullnat, "a flow of fullnat has a port, or is none", &error);
        let mut turns = node(v6, Method::Nat, |service| service.scheduler = Scheduler::Turn as u8);
        pass(&mut turns, "no table tells the backend", &error);
        let mut single = node(v6, Method::Nat, |service| service.flags = PER_PACKET);
        pass(&mut single, "every packet goes elsewhere", &error);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_about_a_flow_whose_backend_is_down_is_dropped() {
    for v6 in [false, true] {
        for method in METHODS {
            let mut node = node(v6, method, |_| ());
            open(&mut node, method, &request(v6, true), 2);
            let mut down = backend_record(v6);
            down.flags &= !SERVING;
            node.backend(0, &down);
            let error = about_answer(&answer(&request(v6, true)), errors(v6)[0], LEAST);
            node.rows(&[("down", error, Action::Drop, Reason::NoBackend, None)]);
        }
    }
}

/// Puts the client on the service's lists.
fn list(node: &mut Node, v6: bool, word: u32) {
    let client = SourcePrefix { network: Addr::from(client(v6).ip()), length: 128 };
    node.plane.sources.write(NUMBER, &client, word).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_about_a_flow_that_its_source_may_not_open_is_dropped() {
    for v6 in [false, true] {
        let quoted = answer(&request(v6, true));
        let error = about_answer(&quoted, errors(v6)[3], LEAST);
        let denied = || ("denied", error.clone(), Action::Drop, Reason::Denied, None);
        for method in [Method::Nat, Method::Tunnel, Method::Direct] {
            let mut node = node(v6, method, |service| service.flags = LISTS);
            let arrives = arriving(&quoted, errors(v6)[3], LEAST, method, quoted.destination);
            expect(&mut node, "on no list", error.clone(), arrives);
            list(&mut node, v6, SOURCE_DENIED);
            node.rows(&[denied()]);
        }
        let mut closed = node(v6, Method::Direct, |service| service.flags = LISTS | DENY_OTHERS);
        closed.rows(&[denied()]);
        list(&mut closed, v6, SOURCE_ALLOWED);
        let arrives = arriving(&quoted, errors(v6)[3], LEAST, Method::Direct, quoted.destination);
        expect(&mut closed, "on the list", error.clone(), arrives);
        // What is among the half-open flows has not been let in yet either; what is in the flow table goes on.
        for (packets, goes_on) in [(1, false), (2, true)] {
            let mut node = node(v6, Method::FullNat, |service| service.flags = LISTS | MOVED);
            let peer = open(&mut node, Method::FullNat, &request(v6, true), packets);
            list(&mut node, v6, SOURCE_DENIED);
            if goes_on {
                let arrives = arriving(&quoted, errors(v6)[3], LEAST, Method::FullNat, peer);
                expect(&mut node, "a flow", error.clone(), arrives);
            } else {
                node.rows(&[denied()]);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_too_large_for_the_tunnel_is_dropped_and_not_answered() {
    for v6 in [false, true] {
        let mut node = node(v6, Method::Tunnel, |_| ());
        let request = Segment { payload: vec![7; 1430], ..request(v6, true) };
        let small = Segment { payload: Vec::new(), ..request.clone() };
        open(&mut node, Method::Tunnel, &small, 2);
        let error =
            about_answer(&Segment { payload: vec![7; 1440], ..answer(&request) }, errors(v6)[0], 1440);
        node.rows(&[("large", error, Action::Drop, Reason::TooBig, None)]);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_moves_and_ends_no_flow() {
    for method in METHODS {
        let mut node = node(false, method, |_| ());
        let request = request(false, true);
        let peer = open(&mut node, method, &request, 2);
        let before = node.flows();
        for flags in [SYN, FIN, RST] {
            let quoted = Segment { flags: Some(flags), ..answer(&request) };
            let (kind, bytes) = (ERRORS4[3], usize::MAX);
            let arrives = arriving(&quoted, kind, bytes, method, peer);
            expect(&mut node, "to the backend", about_answer(&quoted, kind, bytes), arrives);
        }
        assert_eq!(node.flows(), before);
        assert_eq!(node.plane.counters.read(0).unwrap().packets, 2);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_no_error_about_a_flow_is_the_kernels() {
    for v6 in [false, true] {
        let mut node = node(v6, Method::Nat, |_| ());
        let request = request(v6, true);
        open(&mut node, Method::Nat, &request, 2);
        let (quoted, router) = (answer(&request), address(v6, ROUTER));
        let packet = quoted.ip();
        let error = |destination: IpAddr, kind: [u8; 6], quotation: &[u8]| {
            frame(NODE_MAC, ROUTER_MAC, &icmp(router, destination, 50, kind, quotation))
        };
        let (receiver, kind) = (quoted.source.ip(), errors(v6)[0]);
        for bytes in 0..header(v6) + LEAST {
            pass(&mut node, &format!("quotes {bytes} bytes"), &error(receiver, kind, &packet[..bytes]));
        }
        pass(&mut node, "not to the sender of what it quotes", &error(address(v6, 77), kind, &packet));
        let stranger = Segment { source: SocketAddr::new(address(v6, 77), 80), ..quoted.clone() };
        pass(&mut node, "no flow and no service", &error(address(v6, 77), kind, &stranger.ip()));
        let kinds: &[u8] =
            if v6 { &[0, 5, 100, 127, 128, 129, 133, 135, 136] } else { &[0, 4, 5, 8, 13, 17] };
        for other in kinds {
            let frame = error(receiver, [*other, 0, 0, 0, 0, 0], &packet);
            pass(&mut node, &format!("type {other}"), &frame);
        }
        let changed: &[(usize, u8)] = if v6 {
            &[(0, 0x40), (6, 58), (6, 41), (6, 44)]
        } else {
            &[(0, 0x65), (0, 0x44), (7, 1), (9, 47), (9, 4)]
        };
        for (at, byte) in changed {
            let mut packet = packet.clone();
            packet[*at] = *byte;
            pass(&mut node, &format!("quotes {byte:#x} at {at}"), &error(receiver, kind, &packet));
        }
        let mut elsewhere = error(receiver, kind, &packet);
        elsewhere[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
        node.rows(&[(
            "to another host",
            elsewhere.clone(),
            Action::Pass,
            Reason::OtherHost,
            Some(elsewhere),
        )]);
        let whole = error(receiver, kind, &packet);
        for length in 0..whole.len() {
            let seen = node.plane.run("evenkeel", &whole[..length], 0);
            // The kernel runs no program on less than an Ethernet header.
            if let Ok(seen) = seen {
                assert_eq!((seen.action, seen.frame.as_slice()), (2, &whole[..length]), "cut to {length}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_that_quotes_a_first_fragment_finds_the_flow_and_one_about_a_later_one_is_the_kernels() {
    let mut node = node(true, Method::Nat, |_| ());
    let request = request(true, true);
    open(&mut node, Method::Nat, &request, 2);
    let router = address(true, ROUTER);
    let fragment = |segment: &Segment, place: [u8; 2]| {
        let packet = segment.ip();
        let mut quotation = packet[..40].to_vec();
        quotation[6] = 44;
        quotation.extend([6, 0, place[0], place[1], 1, 2, 3, 4]);
        quotation.extend(&packet[40..]);
        quotation
    };
    let error = |segment: &Segment, place, hops| {
        icmp(router, segment.source.ip(), hops, ERRORS6[3], &fragment(segment, place))
    };
    let quoted = answer(&request);
    let translated = Segment { source: server(true), ..quoted.clone() };
    let first = frame(NODE_MAC, ROUTER_MAC, &error(&quoted, [0, 1], 50));
    expect(&mut node, "first", first, delivered(true, Method::Nat, &error(&translated, [0, 1], 49)));
    pass(&mut node, "later", &frame(NODE_MAC, ROUTER_MAC, &error(&quoted, [0, 9], 50)));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_error_about_the_tunnels_own_header_is_the_kernels_with_the_tags_it_came_with() {
    for v6 in [false, true] {
        let mut node = node(v6, Method::Tunnel, |_| ());
        open(&mut node, Method::Tunnel, &request(v6, true), 2);
        let outer = delivered(v6, Method::Tunnel, &request(v6, true).ip()).split_off(14);
        let end = address(v6, 40);
        let error = icmp(address(v6, ROUTER), end, 50, errors(v6)[3], &outer[..header(v6) + header(v6) + 8]);
        let frame = frame(INSIDE_MAC, backend_mac(0), &error);
        pass(&mut node, "too big", &frame);
        pass(&mut node, "too big, tagged", &tagged(&frame, &[[0x81, 0, 0x60, 100]]));
    }
}
