//! Packets in fragments: all of them go where the first one goes.

use lb_common::backend::SERVING;
use lb_common::reason::Reason;
use lb_common::service::{Method, PER_PACKET, Scheduler};

use crate::datagram::{Datagram, Family, drops, families, passes, sends};
use crate::fixture::{Node, ROUTER_MAC, TABLE};
use crate::packet::{ACK, SYN};

const METHODS: [Method; 4] = [Method::Nat, Method::FullNat, Method::Tunnel, Method::Direct];

/// The fragments of a packet, of which the first counts as `first`, to a backend.
fn all(node: &mut Node, family: &Family, method: Method, sent: &Datagram, first: Reason, number: u32) {
    let out = family.delivered(sent, method, number);
    let reasons = [first, Reason::Fragment, Reason::Fragment];
    for ((frame, out), reason) in sent.fragments().into_iter().zip(out.fragments()).zip(reasons) {
        sends(node, &format!("{method:?} {:?}", sent.flags), frame, reason, out);
    }
}

fn all_back(node: &mut Node, family: &Family, reply: &Datagram) {
    let out = family.returned(reply);
    let reasons = [Reason::Reply, Reason::Fragment, Reason::Fragment];
    for ((frame, out), reason) in reply.fragments().into_iter().zip(out.fragments()).zip(reasons) {
        sends(node, "reply", frame, reason, out);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_may_begin_and_go_on_in_fragments_in_both_directions() {
    for family in families() {
        for method in METHODS {
            for flags in [None, Some(ACK)] {
                let mut node = family.node(method);
                let request = family.request(flags);
                for (id, first) in [(1, Reason::Opening), (2, Reason::NewFlow), (3, Reason::Flow)] {
                    let request = Datagram { id, ..request.clone() };
                    all(&mut node, &family, method, &request, first, 0);
                    if method == Method::Nat || method == Method::FullNat {
                        all_back(&mut node, &family, &Datagram { id, ..family.reply(method, flags) });
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_syn_and_its_answer_may_be_fragmented() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        let syn = family.request(Some(SYN));
        all(&mut node, &family, Method::Nat, &syn, Reason::Opening, 0);
        all_back(&mut node, &family, &family.reply(Method::Nat, Some(SYN | ACK)));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn later_fragments_go_where_the_first_went_whatever_the_scheduler_says_now() {
    for family in families() {
        for method in METHODS {
            for flags in [0, PER_PACKET] {
                if flags == PER_PACKET && method == Method::FullNat {
                    continue;
                }
                let mut node = family.node_with(method, 0, |service| {
                    service.scheduler = Scheduler::Turn as u8;
                    service.flags = flags;
                });
                let request = family.udp();
                let out = family.delivered(&request, method, 0).fragments();
                let [first, second, third] = request.fragments();
                let reason = if flags == PER_PACKET { Reason::PerPacket } else { Reason::Opening };
                let [first_out, second_out, third_out] = out;
                sends(&mut node, "first", first, reason, first_out);
                family.turn(&mut node);
                sends(&mut node, "last", third, Reason::Fragment, third_out);
                sends(&mut node, "second", second, Reason::Fragment, second_out);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_fragment_that_comes_twice_is_sent_twice() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        let request = family.udp();
        let out = family.delivered(&request, Method::Nat, 0).fragments();
        for at in [0, 0, 1, 1, 2, 0, 2] {
            let reason = node.send_bytes(&request.fragments()[at]);
            assert_eq!(reason.frame, out[at]);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_fragment_that_overtakes_the_first_is_dropped_and_one_for_nobody_is_the_kernels() {
    for family in families() {
        for flags in [None, Some(ACK)] {
            let mut node = family.node(Method::Nat);
            let request = family.request(flags);
            let [first, second, _] = request.fragments();
            drops(&mut node, "before the first", second.clone(), Reason::StrayFragment);
            node.send_bytes(&first);
            let out = family.delivered(&request, Method::Nat, 0).fragments();
            sends(&mut node, "after the first", second, Reason::Fragment, out[1].clone());
            for (what, other) in [
                ("of another packet", Datagram { id: 0x9999, ..request.clone() }),
                (
                    "of another client",
                    Datagram { from: family.reply(Method::Nat, flags).from, ..request.clone() },
                ),
            ] {
                drops(&mut node, what, other.fragments()[1].clone(), Reason::StrayFragment);
            }
            let elsewhere = Datagram { to: family.client, from: family.service, ..request };
            passes(&mut node, "to no service", &elsewhere.fragments()[1], Reason::NoService);
            passes(&mut node, "first to no service", &elsewhere.fragments()[0], Reason::NoService);
        }
    }
}

/// RFC 1858, RFC 3128.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_fragment_may_carry_a_part_of_a_transport_header_only() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        let options = vec![1; 12];
        let request = Datagram { options, ..family.tcp() };
        for end in [8, 16, 24] {
            drops(&mut node, "too little of the header", request.fragment(0..end), Reason::StrayFragment);
        }
        assert_eq!(node.send_bytes(&request.fragment(0..32)).reason, Reason::Opening);
        for start in [8, 16, 24] {
            drops(&mut node, "over the header", request.fragment(start..start + 64), Reason::StrayFragment);
        }
        let out = family.delivered(&request, Method::Nat, 0).fragment(32..64);
        sends(&mut node, "behind the header", request.fragment(32..64), Reason::Fragment, out);
        let elsewhere = Datagram { to: family.client, from: family.service, ..request };
        passes(&mut node, "too little, to no service", &elsewhere.fragment(0..8), Reason::Malformed);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn fragments_of_other_protocols_are_the_kernels() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        for fragment in family.udp().fragments() {
            let mut fragment = fragment;
            if family.is_v4() {
                fragment[23] = 1;
                crate::packet::sum_ip_again(&mut fragment);
            } else {
                fragment[54] = 58;
            }
            passes(&mut node, "ICMP", &fragment, Reason::OtherProtocol);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn fragments_for_another_host_are_left_alone() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        let request = Datagram { to_mac: ROUTER_MAC, ..family.udp() };
        for fragment in request.fragments() {
            passes(&mut node, "another host", &fragment, Reason::OtherHost);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_fragment_without_a_hop_left_is_dropped() {
    for family in families() {
        for method in METHODS {
            let mut node = family.node(method);
            node.send_bytes(&family.udp().fragments()[0]);
            let last = Datagram { hops: 1, ..family.udp() };
            for fragment in last.fragments() {
                drops(&mut node, "no hop left", fragment, Reason::TtlExceeded);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_rest_of_a_packet_whose_backend_went_down_is_dropped() {
    for family in families() {
        let mut node = family.node(Method::Tunnel);
        let [first, second, _] = family.udp().fragments();
        node.send_bytes(&first);
        let record = node.plane.backends.read().unwrap()[&0];
        node.backend(0, &lb_common::backend::Backend { flags: record.flags & !SERVING, ..record });
        drops(&mut node, "down", second.clone(), Reason::StrayFragment);
        node.backend(0, &lb_common::backend::Backend { identity: 4711, ..record });
        drops(&mut node, "another backend's number", second, Reason::StrayFragment);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_service_without_a_backend_drops_every_fragment() {
    for family in families() {
        let mut node = family.node(Method::Direct);
        node.table(TABLE, 4000);
        let [first, second, third] = family.udp().fragments();
        drops(&mut node, "first", first, Reason::NoBackend);
        drops(&mut node, "second", second, Reason::StrayFragment);
        drops(&mut node, "third", third, Reason::StrayFragment);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn each_fragment_must_fit_into_the_tunnel() {
    let [family, _] = families();
    let mut node = family.node(Method::Tunnel);
    let request = family.udp();
    drops(&mut node, "first", request.fragment(0..1480), Reason::TooBig);
    let out = family.delivered(&request, Method::Tunnel, 0);
    sends(&mut node, "fits", request.fragment(0..1456), Reason::NewFlow, out.fragment(0..1456));
    sends(&mut node, "fits too", request.fragment(1456..1600), Reason::Fragment, out.fragment(1456..1600));
    let long = family.udp().payload(&[0x5a; 2_968]);
    drops(&mut node, "later", long.fragment(1456..2936), Reason::TooBig);
}

/// RFC 6946.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_packet_in_one_fragment_is_a_whole_packet() {
    let [_, family] = families();
    for method in METHODS {
        for flags in [None, Some(ACK)] {
            let mut node = family.node(method);
            let request = family.request(flags).payload(b"small");
            let out = family.delivered(&request, method, 0);
            for reason in [Reason::Opening, Reason::NewFlow, Reason::Flow] {
                sends(&mut node, "atomic", request.fragment(0..999), reason, out.fragment(0..999));
            }
            let later = Datagram { id: request.id, ..family.request(flags) }.fragments()[1].clone();
            drops(&mut node, "an atomic fragment has no others", later, Reason::StrayFragment);
        }
    }
}
