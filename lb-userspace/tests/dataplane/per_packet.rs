//! Services that schedule every packet by itself.

use std::collections::BTreeMap;

use evenkeel::desired::Family;
use lb_common::backend::RESOLVED;
use lb_common::reason::Reason;
use lb_common::service::{Method, PER_PACKET, Scheduler};

use crate::world::{World, all};

fn per_packet(family: Family, method: Method) -> World {
    let mut world = World::new(family, method, 3);
    world.service(|record| {
        record.scheduler = Scheduler::Turn as u8;
        record.flags |= PER_PACKET;
    });
    world
}

/// The configuration refuses it with `fullnat`, which needs a flow.
fn allowed() -> impl Iterator<Item = (Family, Method)> {
    all().filter(|(_, method)| *method != Method::FullNat)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn datagrams_of_one_client_go_to_every_backend_in_turn_and_leave_no_flow() {
    for (family, method) in allowed() {
        let mut world = per_packet(family, method);
        let packet = world.udp();
        let mut got = BTreeMap::<u32, u32>::new();
        for _ in 0..30 {
            let sent = world.send(&packet);
            assert_eq!(sent.reason, Reason::PerPacket, "{family:?} {method:?}");
            *got.entry(sent.to()).or_default() += 1;
        }
        assert_eq!(got, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
        assert_eq!(world.flows(), []);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_answers_of_every_backend_reach_the_client() {
    for family in Family::ALL {
        let mut world = per_packet(family, Method::Nat);
        let packets = [1000, 1001].map(|port| world.udp().port(port));
        let mut sent = Vec::new();
        for _ in 0..3 {
            for packet in &packets {
                sent.push((packet.clone(), world.send(packet)));
            }
        }
        for (packet, sent) in sent.iter().rev() {
            let reply = world.reply(packet, sent);
            world.expect_reply(packet, &reply);
            world.expect_reply(packet, &reply.payload(b"again"));
        }
        assert_eq!(world.flows(), []);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_backend_that_goes_down_gets_no_datagram_more() {
    for (family, method) in allowed() {
        let mut world = per_packet(family, method);
        let packet = world.udp();
        world.send(&packet);
        world.backend(1, |record| record.flags = RESOLVED);
        world.table(&[0, 2]);
        for _ in 0..9 {
            assert_ne!(world.send(&packet).to(), 1, "{family:?} {method:?}");
        }
    }
}
