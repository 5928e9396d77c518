//! Pings to services' addresses.

use lb_common::addr::Addr;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::dual::{address, answered, client, frame, icmp, node, service, tagged};
use crate::fixture::{Action, NODE_MAC, Node, ROUTER_MAC};

const fn kinds(v6: bool) -> [u8; 2] {
    if v6 { [128, 129] } else { [8, 0] }
}

fn pinged(v6: bool) -> Node {
    let mut node = node(v6, Method::Direct, |_| ());
    node.plane.addresses.write(&Addr::from(service(v6).ip()), &1).unwrap();
    node
}

fn ping(v6: bool, payload: &[u8]) -> Vec<u8> {
    let head = [kinds(v6)[0], 0, 0x12, 0x34, 0, 9];
    frame(NODE_MAC, ROUTER_MAC, &icmp(client(v6).ip(), service(v6).ip(), 7, head, payload))
}

fn pong(v6: bool, payload: &[u8]) -> Vec<u8> {
    let head = [kinds(v6)[1], 0, 0x12, 0x34, 0, 9];
    answered(&icmp(service(v6).ip(), client(v6).ip(), 64, head, payload))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_ping_to_a_service_is_answered_whatever_it_carries() {
    for v6 in [false, true] {
        let mut node = pinged(v6);
        for length in [0, 1, 7, 56, 1400] {
            let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let row = ("ping", ping(v6, &payload), Action::Transmit, Reason::Echo, Some(pong(v6, &payload)));
            node.rows(&[row]);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_answer_goes_back_with_the_tags_and_priority_it_came_with() {
    for v6 in [false, true] {
        let mut node = pinged(v6);
        for tags in [&[[0x81, 0, 0x60, 100]][..], &[[0x88, 0xa8, 0x20, 7], [0x81, 0, 0xe1, 9]]] {
            let (frame, expected) = (tagged(&ping(v6, b"ping"), tags), tagged(&pong(v6, b"ping"), tags));
            node.rows(&[("tagged", frame, Action::Transmit, Reason::Echo, Some(expected))]);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn other_pings_are_the_kernels() {
    for v6 in [false, true] {
        let mut node = pinged(v6);
        let whole = ping(v6, b"ping");
        let with = |at: usize, bytes: &[u8]| {
            let mut frame = whole.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        let (icmp_at, source) = if v6 { (54, 22) } else { (34, 26) };
        let head = [kinds(v6)[0], 0, 0x12, 0x34, 0, 9];
        let elsewhere = icmp(client(v6).ip(), address(v6, 77), 7, head, b"ping");
        let mut rows = vec![
            ("address without a service", frame(NODE_MAC, ROUTER_MAC, &elsewhere)),
            ("to another host", with(0, &[2, 9, 9, 9, 9, 9])),
            ("a code", with(icmp_at + 1, &[1])),
            ("an answer", with(icmp_at, &[kinds(v6)[1]])),
            ("from a group", with(source, &[if v6 { 0xff } else { 224 }])),
        ];
        if !v6 {
            rows.push(("from everybody", with(source, &[255; 4])));
            rows.push(("from nobody", with(source, &[0; 4])));
            rows.push(("from loopback", with(source, &[127, 0, 0, 1])));
            rows.push(("with the length of no message", with(17, &[27])));
        } else {
            rows.push(("from nobody", with(source, &[0; 16])));
            rows.push(("with the length of no message", with(19, &[7])));
        }
        for (what, frame) in rows {
            node.rows(&[(what, frame.clone(), Action::Pass, Reason::OtherProtocol, Some(frame))]);
        }
        if !v6 {
            let frame = with(14, &[0x46]);
            node.rows(&[("options", frame.clone(), Action::Pass, Reason::OtherProtocol, Some(frame))]);
        }
        for length in 14..whole.len() {
            let Ok(seen) = node.plane.run("evenkeel", &whole[..length], 0) else { continue };
            assert_eq!((seen.action, seen.frame.as_slice()), (2, &whole[..length]), "cut to {length}");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_ipv4_address_in_disguise_is_none() {
    let mut node = pinged(false);
    let service: std::net::IpAddr = "::ffff:192.0.2.10".parse().unwrap();
    let ping = icmp(client(true).ip(), service, 7, [128, 0, 0, 1, 0, 1], b"ping");
    let frame = frame(NODE_MAC, ROUTER_MAC, &ping);
    node.rows(&[("mapped", frame.clone(), Action::Pass, Reason::OtherProtocol, Some(frame))]);
}
