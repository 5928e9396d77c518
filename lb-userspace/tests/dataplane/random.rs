//! Random packets, broken ones among them, while pools change and backends come and go: the program does what the model
//! says, and every sum that was right stays right, every wrong one as wrong as it was.

use std::net::SocketAddrV4;

use evenkeel::dataplane::{DataPlane, Sizes, object};
use lb_common::backend::{Backend, RESOLVED};
use lb_common::reason::Verdict;
use lb_common::service::{Method, NO_TABLE};
use proptest::prelude::*;
use proptest::sample::select;

use crate::fixture::{CLIENT, Node, backend, backend_address, request};
use crate::model::Model;
use crate::packet::{ACK, FIN, IP, Packet, RST, SYN, Transport};

#[derive(Debug, Clone)]
enum Event {
    Frame(Vec<u8>),
    Tables(Option<u32>, Option<u32>),
    Serving(u32, bool),
}

fn service(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new([203, 0, 113, 10 + number].into(), 80)
}

/// Two by `nat`, so that a client can use one port towards both.
const SERVICES: [Method; 4] = [Method::Nat, Method::Tunnel, Method::Direct, Method::Nat];

fn transport() -> impl Strategy<Value = Transport> {
    let flags = select(vec![SYN, ACK, ACK, ACK, FIN | ACK, RST, SYN | ACK, SYN | FIN, 0, RST | ACK]);
    prop_oneof![
        3 => flags.prop_map(Transport::Tcp),
        2 => Just(Transport::Udp),
        1 => Just(Transport::UdpWithoutChecksum),
    ]
}

/// From a client to a service, or back from a backend.
fn packet() -> impl Strategy<Value = Packet> {
    let ends = (0_u16..2, 0_u8..5, 0_u32..3, any::<bool>(), 0_u8..2);
    let header = (select(vec![0_u8, 1, 2, 64, 64, 64, 64, 255]), any::<u8>(), any::<bool>(), 0_usize..3);
    (ends, header, transport(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |((port, number, backend, back, router), (ttl, tos, dont_fragment, options), transport, payload)| {
            let client = SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + port);
            let (source, destination) =
                if back { (backend_address(backend), client) } else { (client, service(number)) };
            let options = vec![1; options * 4];
            let from_mac = [2, 0, 0, 0, 7, router];
            Packet {
                source,
                destination,
                ttl,
                tos,
                dont_fragment,
                options,
                payload,
                from_mac,
                ..request(transport)
            }
        },
    )
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let whole = packet().prop_map(|packet| packet.bytes());
    let overwritten = (packet(), 12_usize..64, any::<u8>()).prop_map(|(packet, at, byte)| {
        let mut frame = packet.bytes();
        let at = at % frame.len();
        frame[at] = byte;
        frame
    });
    let cut = (packet(), 14_usize..100).prop_map(|(packet, length)| {
        let mut frame = packet.bytes();
        frame.truncate(length);
        frame
    });
    let padded =
        (packet(), 1_usize..20).prop_map(|(packet, more)| [packet.bytes(), vec![0xee; more]].concat());
    let noise = prop::collection::vec(any::<u8>(), 14..120);
    prop_oneof![12 => whole, 4 => overwritten, 1 => cut, 1 => padded, 1 => noise]
}

fn event() -> impl Strategy<Value = Event> {
    let table = || prop::option::weighted(0.8, 0_u32..3);
    prop_oneof![
        16 => frame().prop_map(Event::Frame),
        1 => (table(), prop::option::of(0_u32..3)).prop_map(|(current, previous)| Event::Tables(current, previous)),
        1 => (0_u32..3, prop::bool::weighted(0.7)).prop_map(|(number, serves)| Event::Serving(number, serves)),
    ]
}

/// Tables 0 to 2 hold the backend of that number only.
fn start() -> (Node, Model) {
    let mut node =
        Node::of(DataPlane::load_private(object::EVENKEEL, Sizes::of(1024, 8), 4096).unwrap(), Method::Nat);
    let mut model = Model::default();
    (model.serving, model.current) = ([true; 3], Some(0));
    for number in 0..3 {
        node.backend(number, &backend(number));
        node.table(number, number);
    }
    for (number, method) in (0..).zip(SERVICES) {
        model.services.insert((service(number).ip().octets(), 80), method);
    }
    listen(&mut node, Some(0), None);
    (node, model)
}

fn listen(node: &mut Node, current: Option<u32>, previous: Option<u32>) {
    for (number, method) in (0..).zip(SERVICES) {
        for protocol in [6, 17] {
            let (current, previous) = (current.unwrap_or(NO_TABLE), previous.unwrap_or(NO_TABLE));
            node.listen(service(number), protocol, method, current, previous);
        }
    }
}

fn apply(node: &mut Node, model: &mut Model, event: Event) {
    match event {
        Event::Tables(current, previous) => {
            (model.current, model.previous) = (current, previous);
            listen(node, current, previous);
        }
        Event::Serving(number, serves) => {
            model.serving[number as usize] = serves;
            let record = backend(number);
            let flags = if serves { record.flags } else { RESOLVED };
            node.backend(number, &Backend { flags, ..record });
        }
        Event::Frame(frame) => {
            let (reason, out) = model.step(&frame);
            let seen = node.send_bytes(&frame);
            assert_eq!(seen.reason, reason, "{frame:02x?}");
            assert_eq!(out.is_some(), reason.verdict() == Verdict::Forward, "{reason:?}");
            if let Some(out) = out {
                hold(&frame, &seen.frame, &out);
            }
        }
    }
}

/// `out` is `expected` but for its checksums, and those cover what changed.
fn hold(frame: &[u8], out: &[u8], expected: &[u8]) {
    assert_eq!(out.len(), expected.len());
    let outer = out.len() - frame.len();
    assert_eq!(&out[..IP + outer], &expected[..IP + outer], "Ethernet and outer header");
    let (out, expected) = (&out[outer..], &expected[outer..]);
    let header = usize::from(frame[IP] & 15) * 4;
    let checksum = IP + header + if frame[IP + 9] == 6 { 16 } else { 6 };
    let without = |bytes: &[u8]| {
        let mut bytes = bytes[IP..].to_vec();
        for at in [10, checksum - IP] {
            bytes[at..at + 2].fill(0);
        }
        bytes
    };
    assert_eq!(without(out), without(expected));
    assert_eq!(sum(&frame[IP..IP + header]), sum(&out[IP..IP + header]), "IP header");
    if frame[IP + 9] == 17 && frame[checksum..checksum + 2] == [0, 0] {
        assert_eq!(out[checksum..checksum + 2], [0, 0]);
    } else {
        assert_eq!(sum_of_segment(frame, header), sum_of_segment(out, header), "transport");
    }
}

/// Addresses and segment. The rest of the pseudo-header never changes.
fn sum_of_segment(frame: &[u8], header: usize) -> u32 {
    (sum(&frame[IP + 12..IP + 20]) + sum(&frame[IP + header..])) % 0xffff
}

/// One's complement sum: arithmetic modulo 65,535.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum, pair| {
        (sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0))) % 0xffff
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    #[ignore = "needs root: cargo xtask test"]
    fn the_program_does_what_the_model_says(events in prop::collection::vec(event(), 1..150)) {
        let (mut node, mut model) = start();
        for event in events {
            apply(&mut node, &mut model, event);
        }
    }
}
