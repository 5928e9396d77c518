//! Tunnels in every combination of families, bare and in UDP.

use std::collections::BTreeSet;
use std::net::IpAddr;

use evenkeel::desired::Family;
use lb_common::backend::Encapsulation;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::fixture::MTU;
use crate::packet::{ACK, FIN, SYN, Transport};
use crate::world::segment::Segment;
use crate::world::{TRANSPORTS, World, client, sender};

/// Family inside, family outside, and what is between.
fn kinds() -> impl Iterator<Item = (Family, Family, Encapsulation)> {
    let pairs = Family::ALL.into_iter().flat_map(|inner| Family::ALL.map(|outer| (inner, outer)));
    pairs.flat_map(|(inner, outer)| {
        [Encapsulation::Ip, Encapsulation::Gue].map(|between| (inner, outer, between))
    })
}

fn world(kind: (Family, Family, Encapsulation), spread: u8) -> World {
    let (inner, outer, between) = kind;
    World::outside(inner, outer, Method::Tunnel, 2, |record| {
        record.encapsulation = between as u8;
        record.spread = spread;
        // A prefix: the bits that vary are zero in it.
        let mut words = record.tunnel_source.words();
        words[3] &= u32::MAX.checked_shl(spread.into()).unwrap_or(0).to_be();
        record.tunnel_source = lb_common::addr::Addr::from_words(words);
    })
}

fn overhead((_, outer, between): (Family, Family, Encapsulation)) -> usize {
    let ip = if outer == Family::V4 { 20 } else { 40 };
    if between == Encapsulation::Gue { ip + 8 } else { ip }
}

/// The world holds headers, lengths, checksums, "don't fragment" and the hop limit of 64 against another library's.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_tunnel_carries_packets_whole() {
    for kind in kinds() {
        for spread in [0, 8] {
            let mut world = world(kind, spread);
            for transport in TRANSPORTS {
                let packet = world.request(transport);
                world.establish(&packet);
                for packet in [
                    packet.payload(b""),
                    packet.payload(b"odd"),
                    packet.payload(&[7; 1000]),
                    Segment { dont_fragment: false, ..packet.clone() },
                    Segment { hops: 255, ..packet.clone() },
                    Segment { hops: 2, ..packet.clone() },
                ] {
                    assert_eq!(world.send(&packet).reason, Reason::Flow, "{kind:?}");
                }
            }
        }
    }
}

/// All values: the ECN of the packet inside reaches the outer header (RFC 6040 section 4.1, normal mode), and so does its
/// differentiated services code point (RFC 2983).
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_outer_header_has_the_traffic_class_of_the_packet_inside() {
    for kind in kinds() {
        let mut world = world(kind, 0);
        let packet = world.tcp();
        world.establish(&packet);
        for class in 0..=u8::MAX {
            let sent = world.send(&Segment { class, ..packet.clone() });
            let outer = &sent.frame[14..];
            let seen = if outer[0] >> 4 == 6 { outer[0] << 4 | outer[1] >> 4 } else { outer[1] };
            assert_eq!(seen, class, "{kind:?}");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_outer_source_and_udp_port_vary_by_flow_and_never_within_one() {
    for kind in kinds() {
        let mut world = world(kind, 8);
        let (mut addresses, mut ports) = (BTreeSet::<IpAddr>::new(), BTreeSet::new());
        for port in 1000..1200 {
            for transport in TRANSPORTS {
                let packet = world.request(transport).port(port);
                let first = sender(&world.send(&packet).frame);
                let mut rest = vec![packet.clone(), packet.payload(b"longer than the first one was")];
                if transport != Transport::Udp {
                    rest.extend([SYN, ACK, FIN | ACK].map(|flags| packet.flags(flags)));
                }
                for packet in rest {
                    let next = sender(&world.send(&packet).frame);
                    assert_eq!(next.ip(), first.ip(), "{kind:?}");
                    if kind.2 == Encapsulation::Gue {
                        assert_eq!(next.port(), first.port(), "{kind:?}");
                    }
                }
                addresses.insert(first.ip());
                if kind.2 == Encapsulation::Gue {
                    assert!(first.port() >= 0xc000, "the dynamic range: {}", first.port());
                    ports.insert(first.port());
                }
            }
        }
        // 200 of 256, drawn at random, are some 140 different ones.
        assert!(addresses.len() > 100, "{kind:?}: {} addresses", addresses.len());
        assert!(kind.2 == Encapsulation::Ip || ports.len() > 150, "{kind:?}: {} ports", ports.len());
    }
}

/// Clients that differ by address alone spread too.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn clients_with_one_port_spread_over_outer_sources() {
    for kind in kinds() {
        let mut world = world(kind, 8);
        let mut addresses = BTreeSet::new();
        for network in 0..4 {
            for host in 0..50 {
                let packet = world.tcp().from(client(kind.0, network, host));
                addresses.insert(sender(&world.send(&packet).frame).ip());
            }
        }
        assert!(addresses.len() > 100, "{kind:?}: {} addresses", addresses.len());
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_packet_as_large_as_the_way_takes_goes_and_a_byte_more_does_not() {
    for kind in kinds() {
        let mut world = world(kind, 0);
        let packet = world.tcp();
        let headers = packet.payload(b"").ip().len() + overhead(kind);
        let fits = packet.payload(&vec![7; usize::from(MTU) - headers]);
        world.establish(&fits);
        let larger = world.node.send_bytes(&packet.payload(&vec![7; usize::from(MTU) - headers + 1]).bytes());
        let told = [Reason::TooBig, Reason::FragmentationNeeded];
        assert!(told.contains(&larger.reason), "{kind:?}: {:?}", larger.reason);
    }
}
