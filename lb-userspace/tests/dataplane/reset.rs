//! Packets of connections whose backend is down.

use lb_common::backend::SERVING;
use lb_common::reason::Reason;
use lb_common::service::{Method, RESET};

use crate::dual::{
    METHODS, Segment, answered, backend_record, frame, node, open, request, sent, server, tagged,
};
use crate::fixture::{Action, INSIDE_MAC, Node, backend_mac};
use crate::packet::{ACK, FIN, RST};

/// A node with a flow whose backend is down.
fn down(v6: bool, method: Method, flags: u16) -> Node {
    let mut node = node(v6, method, |service| service.flags = flags);
    open(&mut node, method, &request(v6, true), 2);
    let mut record = backend_record(v6);
    record.flags &= !SERVING;
    node.backend(0, &record);
    node
}

/// The RST of these numbers.
fn reset(request: &Segment, flags: u8, sequence: u32, acknowledgment: u32) -> Vec<u8> {
    let Segment { source, destination, .. } = *request;
    let reset = Segment {
        source: destination,
        destination: source,
        hops: 64,
        flags: Some(flags),
        sequence,
        acknowledgment,
        window: 0,
        payload: Vec::new(),
    };
    answered(&reset.ip())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_client_gets_the_reset_that_it_believes() {
    for v6 in [false, true] {
        for method in METHODS {
            let acknowledging = request(v6, true);
            let sequence = acknowledging.sequence;
            let believed = reset(&acknowledging, RST, acknowledging.acknowledgment, 0);
            let silent = |flags, payload: &[u8]| Segment {
                flags: Some(flags),
                payload: payload.to_vec(),
                ..acknowledging.clone()
            };
            let rows = [
                (acknowledging.clone(), believed.clone()),
                (silent(ACK | FIN, b""), believed),
                (silent(0, b"123"), reset(&acknowledging, RST | ACK, 0, sequence + 3)),
                (silent(FIN, b"123"), reset(&acknowledging, RST | ACK, 0, sequence + 4)),
                (silent(0, b""), reset(&acknowledging, RST | ACK, 0, sequence)),
                (
                    Segment { sequence: u32::MAX - 1, ..silent(0, b"123") },
                    reset(&acknowledging, RST | ACK, 0, 1),
                ),
            ];
            for (packet, expected) in rows {
                let mut node = down(v6, method, RESET);
                let row = ("down", sent(&packet), Action::Transmit, Reason::Reset, Some(expected));
                node.rows(&[row]);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_reset_is_not_answered_and_a_service_that_does_not_reset_sends_none() {
    for v6 in [false, true] {
        let rst = Segment { flags: Some(RST | ACK), ..request(v6, true) };
        let mut node = down(v6, Method::Direct, RESET);
        node.rows(&[("RST", sent(&rst), Action::Drop, Reason::NoBackend, None)]);
        let mut node = down(v6, Method::Direct, 0);
        node.rows(&[("rehash", sent(&request(v6, true)), Action::Drop, Reason::NoBackend, None)]);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_answer_has_no_options_and_goes_back_with_the_tags_it_came_with() {
    let mut node = down(false, Method::Direct, RESET);
    let packet = request(false, true);
    let plain = packet.ip();
    let mut with_options = plain[..20].to_vec();
    with_options[0] = 0x46;
    with_options[3] += 4;
    with_options.extend([1; 4]);
    with_options.extend(&plain[20..]);
    let tags = [[0x88, 0xa8, 0x20, 7], [0x81, 0, 0xe1, 9]];
    let mut frame = sent(&packet)[..14].to_vec();
    frame.extend(with_options);
    let expected = tagged(&reset(&packet, RST, packet.acknowledgment, 0), &tags);
    node.rows(&[("tagged", tagged(&frame, &tags), Action::Transmit, Reason::Reset, Some(expected))]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_the_backend_still_sends_reaches_the_client_until_it_believes_a_reset() {
    for v6 in [false, true] {
        for method in [Method::Nat, Method::FullNat] {
            let mut node = node(v6, method, |service| service.flags = RESET);
            let earlier = request(v6, true);
            let seen_from = open(&mut node, method, &earlier, 2);
            let mut record = backend_record(v6);
            record.flags &= !SERVING;
            node.backend(0, &record);

            let answer = reset(&earlier, RST, earlier.acknowledgment, 0);
            node.rows(&[("overtaken", sent(&earlier), Action::Transmit, Reason::Reset, Some(answer))]);
            let data = Segment {
                source: server(v6),
                destination: seen_from,
                sequence: earlier.acknowledgment,
                ..request(v6, true)
            };
            let out = Segment {
                source: earlier.destination,
                destination: earlier.source,
                hops: data.hops - 1,
                ..data.clone()
            };
            let frame = frame(INSIDE_MAC, backend_mac(0), &data.ip());
            node.rows(&[("data", frame, Action::Transmit, Reason::Reply, Some(answered(&out.ip())))]);
            let later = Segment { acknowledgment: earlier.acknowledgment + 15, ..earlier.clone() };
            let answer = reset(&later, RST, later.acknowledgment, 0);
            node.rows(&[("believed", sent(&later), Action::Transmit, Reason::Reset, Some(answer))]);
        }
    }
}
