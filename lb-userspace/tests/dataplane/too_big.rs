//! Packets that do not fit the way to their backend.

use lb_common::backend::Encapsulation;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::dual::{
    METHODS, Segment, answered, backend_record, client, icmp, node, request, sent, service, tagged,
};
use crate::fixture::{Action, Node};

const HEADERS: [u16; 2] = [40, 60];

/// A TCP packet of so many bytes of IP.
fn large(v6: bool, length: u16) -> Segment {
    Segment { payload: vec![7; usize::from(length - HEADERS[usize::from(v6)])], ..request(v6, true) }
}

/// What tells the client the size that fits.
fn told(segment: &Segment, fits: u16) -> Vec<u8> {
    let v6 = segment.source.is_ipv6();
    let ([high, low], packet) = (fits.to_be_bytes(), segment.ip());
    let (head, quoted) = if v6 { ([2, 0, 0, 0, high, low], 1232) } else { ([3, 4, 0, 0, high, low], 28) };
    answered(&icmp(service(v6).ip(), client(v6).ip(), 64, head, &packet[..quoted]))
}

fn narrow(v6: bool, method: Method, mtu: u16, encapsulation: Encapsulation) -> Node {
    let mut node = node(v6, method, |_| ());
    let mut record = backend_record(v6);
    record.mtu = mtu;
    record.encapsulation = encapsulation as u8;
    record.gue_port = 6080_u16.to_be();
    node.backend(0, &record);
    node
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_sender_is_told_the_size_that_fits_with_every_method_and_overhead() {
    for v6 in [false, true] {
        let mut ways: Vec<_> = METHODS.iter().map(|method| (*method, Encapsulation::Ip)).collect();
        ways.push((Method::Tunnel, Encapsulation::Gue));
        for (method, encapsulation) in ways {
            let overhead = match (method, encapsulation) {
                (Method::Tunnel, Encapsulation::Ip) => HEADERS[usize::from(v6)] - 20,
                (Method::Tunnel, Encapsulation::Gue) => HEADERS[usize::from(v6)] - 20 + 8,
                _ => 0,
            };
            let (mtu, fits) = (1400, 1400 - overhead);
            let mut node = narrow(v6, method, mtu, encapsulation);
            let whole = node.send_bytes(&sent(&large(v6, fits)));
            assert_eq!(whole.reason, Reason::Opening, "{method:?}");
            for length in [fits + 1, fits + 2, fits + 3, 1480] {
                let large = large(v6, length);
                let answer = Some(told(&large, fits));
                // Both ways through the program: by the service, and by the flow.
                for _ in 0..2 {
                    let (frame, answer) = (sent(&large), answer.clone());
                    node.rows(&[("large", frame, Action::Transmit, Reason::FragmentationNeeded, answer)]);
                }
            }
            assert_eq!(node.plane.counters.read(0).unwrap().packets, 1);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_answer_goes_back_with_the_tags_it_came_with() {
    for v6 in [false, true] {
        let mut node = narrow(v6, Method::Direct, 1300, Encapsulation::Ip);
        let (large, tags) = (large(v6, 1301), [[0x81, 0, 0x60, 100]]);
        let (frame, answer) = (tagged(&sent(&large), &tags), tagged(&told(&large, 1300), &tags));
        node.rows(&[("tagged", frame, Action::Transmit, Reason::FragmentationNeeded, Some(answer))]);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn nobody_is_told_of_less_than_every_host_may_send() {
    let mut six = narrow(true, Method::Tunnel, 1280 + 39, Encapsulation::Ip);
    node_drops(&mut six, &sent(&large(true, 1280)));
    let mut six = narrow(true, Method::Tunnel, 1280 + 40, Encapsulation::Ip);
    let frame = sent(&large(true, 1281));
    six.rows(&[("1281", frame, Action::Transmit, Reason::FragmentationNeeded, None)]);
    let mut four = narrow(false, Method::Direct, 67, Encapsulation::Ip);
    node_drops(&mut four, &sent(&large(false, 68)));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_group_and_a_sender_that_allows_fragments_are_not_answered() {
    let mut node = narrow(false, Method::Direct, 1000, Encapsulation::Ip);
    let mut fragments = sent(&large(false, 1100));
    fragments[20] = 0;
    node_drops(&mut node, &fragments);
    let mut six = narrow(true, Method::Direct, 1300, Encapsulation::Ip);
    let mut group = sent(&large(true, 1400));
    group[22] = 0xff;
    node_drops(&mut six, &group);
}

fn node_drops(node: &mut Node, frame: &[u8]) {
    node.rows(&[("not answered", frame.to_vec(), Action::Drop, Reason::TooBig, None)]);
}
