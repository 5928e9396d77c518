//! Frames with VLAN tags.

use lb_common::backend::{SERVICE_TAG, TAGGED, tags};
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::datagram::{Datagram, drops, families, passes, sends};
use crate::packet::ACK;

const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

/// What comes in, and the same in the word of a next hop.
fn tagged() -> Vec<(Vec<(u16, u16)>, u32)> {
    vec![
        (vec![], 0),
        (vec![(VLAN, 100)], tags(0, 100 | TAGGED)),
        (vec![(VLAN, 0)], tags(0, TAGGED)),
        (vec![(VLAN, 4094)], tags(0, 4094 | TAGGED)),
        (vec![(SERVICE_VLAN, 7)], tags(0, 7 | TAGGED | SERVICE_TAG)),
        (vec![(VLAN, 200), (VLAN, 300)], tags(200 | TAGGED, 300 | TAGGED)),
        (vec![(SERVICE_VLAN, 200), (VLAN, 300)], tags(200 | TAGGED | SERVICE_TAG, 300 | TAGGED)),
    ]
}

const METHODS: [Method; 4] = [Method::Nat, Method::FullNat, Method::Tunnel, Method::Direct];

/// Each pair of what a client and what a backend may come with; the flow is in the table after the second.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn tags_come_off_and_those_of_the_next_hop_go_on() {
    for family in families() {
        for method in METHODS {
            let mut node = family.node(method);
            for (outside, _) in tagged() {
                for (inside, word) in tagged() {
                    node.backend(0, &family.record(0, word));
                    let request = Datagram { tags: outside.clone(), ..family.tcp().payload(b"tagged") };
                    let out = Datagram { tags: inside, ..family.delivered(&request, method, 0) };
                    assert_eq!(node.send_bytes(&request.frame()).frame, out.frame(), "{request:?}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn replies_get_the_tags_that_the_client_came_with() {
    for family in families() {
        for method in [Method::Nat, Method::FullNat] {
            let mut node = family.node(method);
            for (outside, _) in tagged() {
                for (inside, _) in tagged() {
                    let request = Datagram { tags: outside.clone(), ..family.tcp().payload(b"tagged") };
                    node.send_bytes(&request.frame());
                    let reply = family.reply(method, Some(ACK)).payload(b"back");
                    let out = Datagram { tags: outside.clone(), ..family.returned(&reply) };
                    let reply = Datagram { tags: inside, ..reply };
                    sends(&mut node, "to the client", reply.frame(), Reason::Reply, out.frame());
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn replies_follow_a_client_to_another_vlan() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        let reply = family.reply(Method::Nat, Some(ACK)).payload(b"back");
        for _ in 0..2 {
            node.send_bytes(&family.tcp().payload(b"before").frame());
        }
        for (tags, _) in tagged() {
            let request = Datagram { tags: tags.clone(), ..family.tcp().payload(b"moved") };
            let out = family.delivered(&request, Method::Nat, 0).frame();
            sends(&mut node, "moved", request.frame(), Reason::Flow, out);
            let out = Datagram { tags, ..family.returned(&reply) }.frame();
            sends(&mut node, "back", reply.frame(), Reason::Reply, out);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn priority_has_no_part_in_it() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        for (priority, reason) in [(0xe000, Reason::Opening), (0x1000, Reason::NewFlow), (0, Reason::Flow)] {
            let tags = vec![(SERVICE_VLAN, 200 | priority), (VLAN, 300 | priority)];
            let request = Datagram { tags, ..family.tcp().payload(b"first") };
            let out = family.delivered(&request, Method::Nat, 0).frame();
            sends(&mut node, "to the backend", request.frame(), reason, out);
        }
        let reply = family.reply(Method::Nat, Some(ACK)).payload(b"back");
        let tags = vec![(SERVICE_VLAN, 200), (VLAN, 300)];
        let out = Datagram { tags, ..family.returned(&reply) }.frame();
        sends(&mut node, "to the client", reply.frame(), Reason::Reply, out);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_passes_keeps_its_tags_to_the_bit() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        let elsewhere = Datagram { to: family.client, from: family.service, ..family.tcp().payload(b"") };
        for tags in [
            vec![(VLAN, 0xffff)],
            vec![(VLAN, 0)],
            vec![(VLAN, 0x6000)],
            vec![(SERVICE_VLAN, 0xb064)],
            vec![(SERVICE_VLAN, 0x3001), (VLAN, 0xf002)],
            vec![(VLAN, 0x8001), (SERVICE_VLAN, 0x1002)],
            vec![(VLAN, 0), (VLAN, 0)],
        ] {
            let frame = Datagram { tags: tags.clone(), ..elsewhere.clone() }.frame();
            passes(&mut node, "no service", &frame, Reason::NoService);
            let mut arp = frame.clone();
            let ethertype = 12 + 4 * tags.len();
            arp[ethertype..ethertype + 2].copy_from_slice(&[0x08, 0x06]);
            passes(&mut node, "ARP", &arp, Reason::NotIp);
            // Cut behind each byte of what has to be there.
            for end in 14..frame.len() {
                let seen = node.send_bytes(&frame[..end]);
                assert!(
                    [Reason::NotIp, Reason::Malformed].contains(&seen.reason),
                    "{end}: {:?}",
                    seen.reason
                );
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn three_tags_are_not_ours() {
    for family in families() {
        let mut node = family.node(Method::Nat);
        for third in [VLAN, SERVICE_VLAN] {
            let tags = vec![(SERVICE_VLAN, 0xe001), (VLAN, 0x7002), (third, 0x9003)];
            let frame = Datagram { tags, ..family.tcp().payload(b"") }.frame();
            passes(&mut node, "three", &frame, Reason::NotIp);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn fragments_and_extension_headers_may_be_tagged() {
    for family in families() {
        let inside = (vec![(VLAN, 44)], tags(0, 44 | TAGGED));
        let mut node = family.node_with(Method::Nat, inside.1, |_| {});
        let request = Datagram { tags: vec![(SERVICE_VLAN, 1), (VLAN, 2)], ..family.udp() };
        drops(&mut node, "stray", request.fragments()[1].clone(), Reason::StrayFragment);
        let out = Datagram { tags: inside.0.clone(), ..family.delivered(&request, Method::Nat, 0) };
        let reasons = [Reason::Opening, Reason::Fragment, Reason::Fragment];
        for ((frame, out), reason) in request.fragments().into_iter().zip(out.fragments()).zip(reasons) {
            sends(&mut node, "there", frame, reason, out);
        }
        let reply = family.reply(Method::Nat, None);
        let out = Datagram { tags: request.tags.clone(), ..family.returned(&reply) };
        let reply = Datagram { tags: inside.0, ..reply };
        let reasons = [Reason::Reply, Reason::Fragment, Reason::Fragment];
        for ((frame, out), reason) in reply.fragments().into_iter().zip(out.fragments()).zip(reasons) {
            sends(&mut node, "back", frame, reason, out);
        }
        let elsewhere = Datagram { to: family.client, from: family.service, ..request };
        passes(&mut node, "to no service", &elsewhere.fragments()[1], Reason::NoService);
    }
}
