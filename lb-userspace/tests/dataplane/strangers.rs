//! What a packet may not do, whoever forged it.

use etherparse::{IpNumber, UdpHeader};
use evenkeel::desired::Family;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::fixture::{Action, NODE_MAC, ROUTER_MAC};
use crate::packet::{ACK, SYN, Transport};
use crate::world::segment::{Outside, Segment, frame, ip};
use crate::world::{GUE_PORT, TRANSPORTS, World, all, client, service_address, translates, translating};

const ELSEWHERE: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OUTSIDE: Outside = Outside { hops: 64, class: 0, dont_fragment: true };

fn flooded(world: &mut World, what: &str, packet: &Segment) {
    let packet = Segment { to_mac: ELSEWHERE, ..packet.clone() };
    world.node.rows(&[(what, packet.bytes(), Action::Pass, Reason::OtherHost, None)]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn frames_for_another_host_are_left_alone_on_every_path() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 1);
        for transport in [Transport::Tcp(SYN), Transport::Tcp(ACK), Transport::Udp] {
            let packet = world.request(transport);
            flooded(&mut world, "nothing is known of it", &packet);
            flooded(&mut world, "still nothing", &packet);
        }
        assert_eq!(world.flows(), []);
        for transport in TRANSPORTS {
            let packet = world.request(transport);
            let sent = world.send(&packet);
            flooded(&mut world, "half-open", &packet);
            if translates(method) {
                let reply = world.reply(&packet, &sent);
                flooded(&mut world, "reply to a half-open flow", &reply);
                world.expect_reply(&packet, &reply);
            }
            assert_eq!(world.send(&packet).reason, Reason::NewFlow, "{family:?} {method:?}");
            flooded(&mut world, "request", &packet);
            if transport != Transport::Udp {
                flooded(&mut world, "SYN of a known flow", &packet.flags(SYN));
            }
            if translates(method) {
                let reply = world.reply(&packet, &sent);
                flooded(&mut world, "reply", &reply);
                world.expect_reply(&packet, &reply);
            }
            assert_eq!(world.send(&packet).reason, Reason::Flow);
        }
    }
}

/// A packet in a tunnel from `stranger` to an address.
fn wrapped(inner: &[u8], family: Family, to: std::net::IpAddr, gue: Option<u16>) -> Vec<u8> {
    let stranger = client(family, 66, 6);
    let inside = if inner[0] >> 4 == 6 { IpNumber::IPV6 } else { IpNumber::IPV4 };
    let packet = match gue {
        None => ip(stranger, to, OUTSIDE, inside, inner),
        Some(port) => {
            let udp = UdpHeader::without_ipv4_checksum(50_000, port, inner.len()).unwrap();
            let datagram = [&udp.to_bytes()[..], inner].concat();
            ip(stranger, to, OUTSIDE, IpNumber::UDP, &datagram)
        }
    };
    frame(NODE_MAC, ROUTER_MAC, &packet)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_forged_inner_header_reaches_no_service() {
    for (family, method) in all() {
        for outer in Family::ALL {
            let mut world = World::new(family, method, 1);
            let inner = [world.tcp(), world.tcp().flags(SYN), world.udp()].map(|packet| packet.ip());
            let known = world.tcp().port(41_000);
            world.establish(&known);
            for inner in inner.into_iter().chain([known.ip()]) {
                let to = service_address(outer, 10);
                for (gue, reason) in [(None, Reason::OtherProtocol), (Some(GUE_PORT), Reason::NoService)] {
                    let packet = wrapped(&inner, outer, to, gue);
                    world.node.rows(&[("forged", packet, Action::Pass, reason, None)]);
                }
            }
            assert_eq!(world.flows().len(), world.halves(), "{family:?} {method:?}");
        }
    }
}

/// To a service that takes UDP it is a datagram as any other, whatever it carries.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tunnel_packet_to_a_udp_service_is_forwarded_as_it_is() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 1);
        let inner = world.tcp().flags(SYN).ip();
        let packet = world.udp().payload(&inner);
        // The world holds what reaches the backend.
        world.establish(&packet);
        assert!(world.flows().iter().all(|flow| flow.key.protocol == 17), "{family:?} {method:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_forged_reply_opens_no_path() {
    for (family, method) in translating() {
        let mut world = World::new(family, method, 1);
        for transport in TRANSPORTS {
            let packet = world.request(transport);
            let sent = world.establish(&packet);
            let reply = world.reply(&packet, &sent);
            let forged = |packet: Segment| ("forged", packet.bytes(), Action::Pass, Reason::NoService, None);
            let other_port = |port: u16| (sent.sender.ip(), port).into();
            for _ in 0..2 {
                world.node.rows(&[
                    forged(reply.port(9090)),
                    forged(reply.from(client(family, 66, 6))),
                    forged(reply.to(other_port(sent.sender.port() ^ 1))),
                    forged(reply.to((client(family, 7, 7), sent.sender.port()).into())),
                ]);
            }
            world.expect_reply(&packet, &reply);
        }
        assert_eq!(world.flows().len(), 2 * world.halves());
    }
}

/// The half-open reply of one protocol is none of the other's.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_reply_of_the_other_protocol_finds_no_flow() {
    for (family, method) in translating() {
        for (sent, forged) in [(Transport::Tcp(SYN), Transport::Udp), (Transport::Udp, Transport::Tcp(ACK))] {
            let mut world = World::new(family, method, 1);
            let packet = world.request(sent);
            for _ in 0..2 {
                let sent = world.send(&packet);
                let reply = Segment { transport: forged, ..world.reply(&packet, &sent) };
                world.node.rows(&[("forged", reply.bytes(), Action::Pass, Reason::NoService, None)]);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_packet_leaves_by_an_interface_that_is_not_listed() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 1);
        let known = world.tcp();
        world.establish(&known);
        world.backend(0, |record| record.next_hop.ifindex = 4711);
        let rows =
            [known.clone(), known.flags(SYN), known.port(41_000), known.port(41_001).flags(SYN), world.udp()];
        for packet in rows {
            for _ in 0..2 {
                assert_eq!(world.send(&packet).reason, Reason::InterfaceNotListed, "{family:?} {method:?}");
            }
        }
    }
}

/// A client cannot make the node send to itself: the backends' replies go to the client's address, which is no service.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_backend_that_is_a_client_too_has_flows_of_its_own() {
    for family in Family::ALL {
        let mut world = World::new(family, Method::FullNat, 2);
        world.table(&[0]);
        let packet = Segment { source: world.at_backend(0, 80), ..world.tcp() };
        let sent = world.establish(&packet);
        assert_ne!(sent.sender, packet.source);
        let reply = world.reply(&packet, &sent);
        world.expect_reply(&packet, &reply);
    }
}
