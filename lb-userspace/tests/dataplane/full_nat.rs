//! `fullnat`: every flow has an address and port of the node towards its backend, and no other flow has.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::desired::Family;
use lb_common::addr::Addr;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::packet::{RST, SYN};
use crate::world::segment::Segment;
use crate::world::{FIRST_PORT, World, own_address};

fn world(family: Family, addresses: u8, ports: u16) -> World {
    let mut world = World::new(family, Method::FullNat, 1);
    world.sources(|sources| {
        for (number, place) in (1..=addresses).zip(&mut sources.addresses) {
            *place = Addr::from(own_address(family, number));
        }
        (sources.count, sources.ports) = (addresses.into(), ports);
    });
    world
}

/// Longer than any flow that sees no packet is kept.
const LONG: Duration = Duration::from_secs(200_000);

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_port_is_handed_out_twice_and_a_flow_that_finds_none_is_dropped_and_counted() {
    for family in Family::ALL {
        let mut world = world(family, 3, 200);
        let (mut given, mut refused) = (BTreeSet::<SocketAddr>::new(), 0);
        let mut flows: Vec<(Segment, SocketAddr)> = Vec::new();
        for port in 1000..4000 {
            let packet = world.tcp().port(port);
            let first = world.send(&packet);
            if first.reason == Reason::NoPort {
                refused += 1;
                continue;
            }
            assert_eq!(first.reason, Reason::Opening);
            assert!(given.insert(first.sender), "{} is another flow's", first.sender);
            let second = world.send(&packet);
            assert_eq!((second.reason, second.sender), (Reason::NewFlow, first.sender));
            flows.push((packet, second.sender));
        }
        assert!(refused > 2000, "{refused}");
        assert!(given.len() > 500, "of 600, {} were found", given.len());
        for (packet, sender) in &flows {
            let sent = world.send(packet);
            assert_eq!((sent.reason, sent.sender), (Reason::Flow, *sender));
            let reply = world.reply(packet, &sent);
            world.expect_reply(packet, &reply);
        }

        let census = world.sweep_after(LONG);
        assert_eq!(census.expired as usize, flows.len());
        assert_eq!(world.flows(), []);
        let again = (5000..5300).filter(|port| {
            let packet = world.tcp().port(*port);
            world.send(&packet).reason == Reason::Opening
        });
        assert!(again.count() > 250, "the ports are free again");
    }
}

/// A flood of SYNs must not keep ports for longer than a handshake may take.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn ports_of_handshakes_that_went_no_further_come_back() {
    for family in Family::ALL {
        let mut world = world(family, 1, 64);
        let opened = |world: &mut World, from: u16| {
            let open = |port: &u16| {
                let packet = world.tcp().port(*port).flags(SYN);
                world.send(&packet).reason == Reason::Opening
            };
            (from..from + 500).filter(open).count()
        };
        assert!((50..=64).contains(&opened(&mut world, 1000)));
        assert!(opened(&mut world, 2000) <= 14);
        // Those that are there are older than this.
        world.service(|record| record.half_open = 0);
        std::thread::sleep(Duration::from_millis(50));
        world.service(|record| record.half_open = 2);
        assert!(opened(&mut world, 3000) >= 50);
    }
}

/// The client goes on with the handshake, so it keeps its port for as long as it does.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_syn_that_is_sent_again_keeps_its_port_and_its_way_back() {
    for family in Family::ALL {
        let mut world = world(family, 1, 64);
        let packet = world.tcp();
        let syn = world.send(&packet.flags(SYN));
        for _ in 0..3 {
            let again = world.send(&packet.flags(SYN));
            assert_eq!((again.reason, again.sender), (Reason::Opening, syn.sender));
            let reply = world.reply(&packet, &again);
            world.expect_reply(&packet, &reply);
        }
        let ack = world.send(&packet);
        assert_eq!((ack.reason, ack.sender), (Reason::NewFlow, syn.sender));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn replies_of_half_open_and_of_established_flows_reach_their_own_clients() {
    for family in Family::ALL {
        let mut world = world(family, 2, 1000);
        let packets: Vec<Segment> = (0..40)
            .map(|n| if n % 2 == 0 { world.tcp().port(1000 + n) } else { world.udp().port(1000 + n) })
            .collect();
        let opened: Vec<_> = packets.iter().map(|packet| world.send(packet)).collect();
        for (packet, sent) in packets.iter().zip(&opened) {
            let reply = world.reply(packet, sent);
            world.expect_reply(packet, &reply);
        }
        let known: Vec<_> = packets.iter().map(|packet| world.send(packet)).collect();
        for ((packet, first), second) in packets.iter().zip(&opened).zip(&known) {
            assert_eq!((second.reason, second.sender), (Reason::NewFlow, first.sender));
            let reply = world.reply(packet, second);
            world.expect_reply(packet, &reply);
        }
    }
}

/// What the node has as ports is its own business: the first and the last of the range are used, and none outside, which the
/// world holds.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_range_up_to_the_last_port_there_is_is_used_whole() {
    for family in Family::ALL {
        let mut world = world(family, 1, 8);
        world.sources(|sources| sources.first_port = 65_528);
        let mut ports = BTreeSet::new();
        for port in 1000..1100 {
            let packet = world.udp().port(port);
            let sent = world.send(&packet);
            if sent.backend.is_some() {
                ports.insert(sent.sender.port());
            }
        }
        assert_eq!(ports, (65_528..=65_535).collect());
        assert!(!ports.contains(&FIRST_PORT));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_reset_of_nothing_takes_no_port() {
    for family in Family::ALL {
        let mut world = world(family, 1, 1);
        for _ in 0..2 {
            let packet = world.tcp().flags(RST);
            assert_eq!(world.send(&packet).reason, Reason::NoService);
        }
        let packet = world.tcp().port(41_000);
        world.establish(&packet);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_service_without_source_addresses_drops_what_is_new() {
    for family in Family::ALL {
        let mut world = world(family, 0, 64);
        let packet = world.tcp();
        assert_eq!(world.send(&packet).reason, Reason::NoPort);
        world.sources(|sources| (sources.count, sources.ports) = (1, 0));
        assert_eq!(world.send(&packet).reason, Reason::NoPort);
    }
}
