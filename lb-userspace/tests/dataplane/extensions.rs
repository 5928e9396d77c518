//! IPv6 extension headers in front of TCP and UDP.

use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::datagram::{Datagram, Family, drops, families, passes, sends};
use crate::fixture::Node;
use crate::packet::{ACK, FIN, SYN};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Options of so many times eight bytes: one that pads.
fn options(protocol: u8, eights: u8) -> (u8, Vec<u8>) {
    let length = eights * 8;
    let mut header = vec![0; usize::from(length)];
    (header[1], header[2], header[3]) = (eights - 1, 1, length - 4);
    (protocol, header)
}

fn routing(kind: u8, segments_left: u8) -> (u8, Vec<u8>) {
    (ROUTING, vec![0, 0, kind, segments_left, 0, 0, 0, 0])
}

fn family() -> Family {
    families()[1]
}

fn with(extensions: &[(u8, Vec<u8>)], flags: Option<u8>) -> Datagram {
    let request = family().request(flags).payload(b"behind them all");
    Datagram { extensions: extensions.to_vec(), ..request }
}

fn goes_both_ways(
    node: &mut Node,
    method: Method,
    what: &str,
    extensions: &[(u8, Vec<u8>)],
    flags: Option<u8>,
) {
    let family = family();
    let request = with(extensions, flags);
    let out = family.delivered(&request, method, 0).frame();
    for reason in [Reason::Opening, Reason::NewFlow, Reason::Flow] {
        sends(node, what, request.frame(), reason, out.clone());
    }
    if method == Method::Nat || method == Method::FullNat {
        let reply =
            Datagram { extensions: extensions.to_vec(), ..family.reply(method, flags).payload(b"and back") };
        sends(node, what, reply.frame(), Reason::Reply, family.returned(&reply).frame());
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn packets_with_extension_headers_are_forwarded_in_both_directions() {
    let hop_by_hop = options(HOP_BY_HOP, 1);
    let destination = options(DESTINATION_OPTIONS, 3);
    let longest = options(DESTINATION_OPTIONS, 31);
    for method in [Method::Nat, Method::FullNat, Method::Tunnel, Method::Direct] {
        for flags in [None, Some(ACK)] {
            for (what, extensions) in [
                ("hop-by-hop", vec![hop_by_hop.clone()]),
                ("destination options", vec![destination.clone()]),
                ("long ones", vec![longest.clone(), longest.clone()]),
                ("a route that was gone", vec![routing(4, 0)]),
                (
                    "all there are",
                    vec![
                        hop_by_hop.clone(),
                        destination.clone(),
                        routing(2, 0),
                        destination.clone(),
                        destination.clone(),
                        destination.clone(),
                    ],
                ),
            ] {
                goes_both_ways(&mut family().node(method), method, what, &extensions, flags);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_is_the_same_with_and_without_them() {
    let family = family();
    for method in [Method::Nat, Method::FullNat, Method::Tunnel] {
        let mut node = family.node(method);
        let plain = with(&[], Some(ACK));
        let extended = with(&[options(DESTINATION_OPTIONS, 2)], Some(ACK));
        let out = |sent: &Datagram| family.delivered(sent, method, 0).frame();
        sends(&mut node, "opens", plain.frame(), Reason::Opening, out(&plain));
        sends(&mut node, "enters", extended.frame(), Reason::NewFlow, out(&extended));
        family.turn(&mut node);
        sends(&mut node, "goes on", plain.frame(), Reason::Flow, out(&plain));
        sends(&mut node, "goes on", extended.frame(), Reason::Flow, out(&extended));
        let last = with(&[options(DESTINATION_OPTIONS, 2)], Some(FIN | ACK));
        sends(&mut node, "ends", last.frame(), Reason::Flow, out(&last));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_connection_opens_with_them() {
    let family = family();
    let mut node = family.node(Method::Nat);
    let syn = with(&[options(HOP_BY_HOP, 1)], Some(SYN));
    sends(&mut node, "SYN", syn.frame(), Reason::Opening, family.delivered(&syn, Method::Nat, 0).frame());
    let reply = Datagram {
        extensions: vec![options(DESTINATION_OPTIONS, 1)],
        ..family.reply(Method::Nat, Some(SYN | ACK)).payload(b"")
    };
    sends(&mut node, "SYN-ACK", reply.frame(), Reason::Reply, family.returned(&reply).frame());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn replies_follow_a_client_whose_router_changed() {
    let family = family();
    let mut node = family.node(Method::Nat);
    let extensions = [options(DESTINATION_OPTIONS, 1)];
    goes_both_ways(&mut node, Method::Nat, "before", &extensions, Some(ACK));
    let other = [2, 0, 0, 0, 0, 99];
    let moved = Datagram { from_mac: other, ..with(&extensions, Some(ACK)) };
    sends(&mut node, "moved", moved.frame(), Reason::Flow, family.delivered(&moved, Method::Nat, 0).frame());
    let reply = family.reply(Method::Nat, Some(ACK)).payload(b"back");
    let out = Datagram { to_mac: other, ..family.returned(&reply) };
    sends(&mut node, "back", reply.frame(), Reason::Reply, out.frame());
}

/// RFC 7112: the first fragment has all headers.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn headers_before_and_behind_the_fragment_header_are_walked_over() {
    let family = family();
    for method in [Method::Nat, Method::Tunnel] {
        let mut node = family.node(method);
        let request = Datagram {
            extensions: vec![options(HOP_BY_HOP, 1), options(DESTINATION_OPTIONS, 1)],
            behind: vec![options(DESTINATION_OPTIONS, 2)],
            ..family.tcp()
        };
        let out = family.delivered(&request, method, 0).fragments();
        let reasons = [Reason::Opening, Reason::Fragment, Reason::Fragment];
        for ((frame, out), reason) in request.fragments().into_iter().zip(out).zip(reasons) {
            sends(&mut node, "behind", frame, reason, out);
        }
        for start in [8, 16, 24, 32] {
            let over = request.fragment(start..start + 64);
            drops(&mut node, "over the headers", over, Reason::StrayFragment);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_not_ours_behind_them_is_the_kernels() {
    let mut node = family().node(Method::Nat);
    let destination = options(DESTINATION_OPTIONS, 1);
    for (what, extensions, last) in [
        ("a route that goes on", vec![routing(4, 1)], None),
        ("a deprecated route", vec![routing(0, 0)], None),
        ("seven headers", vec![destination.clone(); 7], None),
        ("hop-by-hop options that are not first", vec![destination.clone(), options(HOP_BY_HOP, 1)], None),
        ("two fragment headers", vec![(FRAGMENT, vec![0; 8]), (FRAGMENT, vec![0; 8])], None),
        ("ICMPv6", vec![destination.clone()], Some(58)),
        ("nothing", vec![destination.clone()], Some(59)),
        ("ESP", vec![destination.clone()], Some(50)),
        ("AH", vec![destination.clone()], Some(51)),
    ] {
        let mut frame = with(&extensions, Some(ACK)).frame();
        if let Some(protocol) = last {
            frame[54] = protocol;
        }
        passes(&mut node, what, &frame, Reason::OtherProtocol);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn headers_that_are_longer_than_the_packet_are_malformed() {
    let mut node = family().node(Method::Nat);
    for flags in [None, Some(ACK)] {
        let whole = with(&[options(HOP_BY_HOP, 1), options(DESTINATION_OPTIONS, 2)], flags);
        for length in 1..=255 {
            let mut frame = whole.frame();
            frame[63] = length;
            if length != 1 {
                let seen = node.send_bytes(&frame);
                assert_ne!(seen.reason, Reason::Opening, "{length}");
            }
        }
        // Cut anywhere, with a length that agrees.
        let frame = Datagram { payload: Vec::new(), ..whole }.frame();
        for end in 54..frame.len() {
            let mut frame = frame[..end].to_vec();
            frame[18..20].copy_from_slice(&((end - 54) as u16).to_be_bytes());
            passes(&mut node, "cut", &frame, Reason::Malformed);
        }
    }
}
