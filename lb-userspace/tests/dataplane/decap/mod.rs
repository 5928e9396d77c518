//! `decap`: removes the tunnel headers of listed destinations, and touches nothing else.

mod malformed;
mod packet;
mod tunnel_devices;

use std::net::IpAddr;

use etherparse::IpNumber;
use evenkeel::dataplane::Decap;
use lb_common::decap::Outcome;
use lb_common::reason::Verdict;
use lb_common::service::Method;

use crate::fixture::{Node, backend_address, tcp};
use packet::{Between, GUE_PORT, LISTED, LISTED4, LISTED6, Tunnel, all};

const DROP: u32 = 1;
const PASS: u32 = 2;

struct Backend {
    decap: Decap,
    counted: Vec<(Outcome, u64)>,
}

impl Backend {
    fn new() -> Self {
        Self::with_port(GUE_PORT)
    }

    fn with_port(port: u16) -> Self {
        let mut decap = Decap::load(port).unwrap();
        for destination in LISTED {
            decap.add(destination).unwrap();
        }
        let counted = decap.outcomes().unwrap();
        Self { decap, counted }
    }

    /// Runs a frame, and holds what is true of every packet: it is counted once or, if it is none of ours, not at all; and it
    /// is left as it came unless its headers are removed.
    fn send(&mut self, frame: &[u8]) -> (Option<Outcome>, Vec<u8>) {
        let done = self.decap.run(frame).unwrap();
        let now = self.decap.outcomes().unwrap();
        let grown = now.iter().zip(&self.counted).filter(|(now, before)| now.1 != before.1);
        let counted: Vec<_> = grown.map(|(now, before)| (now.0, now.1 - before.1)).collect();
        self.counted = now;
        let outcome = match counted[..] {
            [] => None,
            [(outcome, 1)] => Some(outcome),
            _ => panic!("{counted:?} counted for one packet"),
        };
        let verdict = outcome.map_or(Verdict::Pass, Outcome::verdict);
        assert_eq!(done.action, if verdict == Verdict::Drop { DROP } else { PASS }, "{outcome:?}");
        if verdict != Verdict::Forward {
            assert_eq!(done.frame, frame, "{outcome:?}");
        }
        (outcome, done.frame)
    }

    fn expect(&mut self, what: &str, frame: &[u8], outcome: Option<Outcome>) {
        assert_eq!(self.send(frame).0, outcome, "{what}: {frame:02x?}");
    }

    fn expect_removed(&mut self, what: &str, tunnel: &Tunnel) {
        let (outcome, out) = self.send(&tunnel.frame());
        let expected = if tunnel.between == Between::Nothing { Outcome::Ip } else { Outcome::Gue };
        assert_eq!(outcome, Some(expected), "{what}: {tunnel:?}");
        assert_eq!(out, tunnel.out(), "{what}: {tunnel:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_was_in_the_tunnel_comes_out_as_it_went_in_and_keeps_its_tags() {
    let mut backend = Backend::new();
    for tunnel in all() {
        for tags in [&[][..], &[7], &[4094, 7]] {
            backend.expect_removed("every kind", &Tunnel { tags: tags.to_vec(), ..tunnel.clone() });
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn padding_behind_either_packet_does_not_matter() {
    let mut backend = Backend::new();
    for tunnel in all() {
        let frame = [tunnel.frame(), vec![0; 30]].concat();
        let (outcome, out) = backend.send(&frame);
        assert!(matches!(outcome, Some(Outcome::Ip | Outcome::Gue)), "{tunnel:?}");
        assert_eq!(out, [tunnel.out(), vec![0; 30]].concat());
    }
    for destination in LISTED {
        let tunnel = Tunnel::to(destination);
        let frame = tunnel.around(IpNumber::IPV4, &[tunnel.inner(), vec![0; 30]].concat());
        backend.expect("inside the outer packet", &frame, Some(Outcome::Ip));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn gue_is_taken_at_its_port_whatever_the_udp_checksum() {
    let (mut backend, mut other) = (Backend::new(), Backend::with_port(5555));
    for tunnel in all().into_iter().filter(|tunnel| tunnel.between != Between::Nothing) {
        for udp_checksum in [0, 1, 0xffff] {
            backend.expect_removed("checksum", &Tunnel { udp_checksum, ..tunnel.clone() });
        }
        let at_5555 = Tunnel { port: 5555, ..tunnel.clone() };
        backend.expect("another port", &at_5555.frame(), None);
        other.expect_removed("the port it was told", &at_5555);
        other.expect("the usual port", &tunnel.frame(), None);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_not_listed_and_what_is_no_tunnel_stays_as_it_is() {
    let mut backend = Backend::new();
    let others: [IpAddr; 5] = ["10.0.0.10", "11.0.0.10", "2001:db8::12", "::ffff:10.0.0.11", "::"]
        .map(|address| address.parse().unwrap());
    for destination in others {
        for tunnel in all() {
            backend.expect("not listed", &Tunnel { destination, ..tunnel }.frame(), None);
        }
    }
    for tunnel in all() {
        backend.expect("no tunnel", &tunnel.out(), None);
        for number in [IpNumber::TCP, IpNumber::ICMP, IpNumber::GRE, IpNumber::IPV6_ROUTE_HEADER] {
            backend.expect("another protocol", &tunnel.around(number, &tunnel.inner()), None);
        }
        let mut frame = tunnel.frame();
        for ethertype in [[8, 6], [0x88, 0x47], [0, 0x40]] {
            frame[12..14].copy_from_slice(&ethertype);
            backend.expect("not IP", &frame, None);
        }
        let tagged = Tunnel { tags: vec![1, 2], ..tunnel }.frame();
        let third = [&tagged[..12], &[0x81, 0, 0, 3], &tagged[12..]].concat();
        backend.expect("three tags", &third, None);
    }
}

/// RFC 6040 figure 4: rows are the inner field, columns the outer, both in the order Not-ECT, ECT(0), ECT(1), CE.
const ECN: [[Option<u8>; 4]; 4] = [
    [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
    [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
    [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
    [Some(CE), Some(CE), Some(CE), Some(CE)],
];
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn congestion_met_in_the_tunnel_is_told_to_who_knows_it_and_drops_what_does_not() {
    let mut backend = Backend::new();
    let fields = [NOT_ECT, ECT_0, ECT_1, CE];
    for tunnel in all() {
        for (row, inner_ecn) in fields.into_iter().enumerate() {
            for (column, outer_ecn) in fields.into_iter().enumerate() {
                let tunnel = Tunnel { outer_ecn, inner_ecn, ..tunnel.clone() };
                let (outcome, out) = backend.send(&tunnel.frame());
                match ECN[row][column] {
                    Some(inner_ecn) => assert_eq!(out, Tunnel { inner_ecn, ..tunnel }.out()),
                    None => assert_eq!(outcome, Some(Outcome::Congestion), "{tunnel:?}"),
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_goes_into_a_listed_tunnel_again_is_left_to_the_kernel() {
    let mut backend = Backend::new();
    for tunnel in all() {
        let listed = if tunnel.inner_is_v4 { LISTED4 } else { LISTED6 };
        let nested = Tunnel { inner_destination: Some(listed), ..tunnel.clone() };
        backend.expect("nested", &nested.frame(), Some(Outcome::Nested));
    }
    let mapped = Some("::ffff:10.0.0.11".parse().unwrap());
    let mapped = Tunnel { inner_is_v4: false, inner_destination: mapped, ..Tunnel::to(LISTED4) };
    backend.expect_removed("IPv4 as it is mapped into IPv6 is no IPv4", &mapped);
}

/// Instructions the verifier may walk through: every pair of headers with and without tags is a path.
const VERIFIED: u32 = 20_000;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_program_is_accepted_within_its_budget_of_verified_instructions() {
    let mut decap = Decap::load(GUE_PORT).unwrap();
    let verified = decap.program().info().unwrap().verified_instruction_count().unwrap_or_default();
    assert!(verified <= VERIFIED, "{verified} instructions");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_the_balancer_sends_the_backend_gets() {
    let (mut node, mut backend) = (Node::new(Method::Tunnel), Backend::new());
    backend.decap.add((*backend_address(0).ip()).into()).unwrap();
    let packet = tcp();
    let sent = node.send(&packet).frame;
    let expected = [&sent[..14], &packet.ttl(packet.ttl - 1).bytes()[14..]].concat();
    assert_eq!(backend.send(&sent), (Some(Outcome::Ip), expected));
}
