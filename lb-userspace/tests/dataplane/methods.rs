//! Every forwarding method, in both families.

use lb_common::reason::Reason;
use lb_common::service::MOVED;

use crate::fixture::Action;
use crate::packet::{ACK, FIN, SYN, Transport};
use crate::world::segment::Segment;
use crate::world::{
    self, BACKEND_PORT, PORT, TRANSPORTS, World, all, service_address, translates, translating,
};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn packets_reach_the_backend_and_replies_the_client_with_every_checksum_right() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 1);
        for transport in [Transport::Tcp(ACK), Transport::Udp, Transport::UdpWithoutChecksum] {
            if family == evenkeel::desired::Family::V6 && transport == Transport::UdpWithoutChecksum {
                continue;
            }
            let port = if transport == Transport::UdpWithoutChecksum { 41_000 } else { 40_000 };
            let packet = world.request(transport).port(port);
            world.establish(&packet);
            for packet in [
                packet.payload(b""),
                packet.payload(b"odd"),
                packet.payload(&[0xff; 1000]),
                Segment { class: 0xb9, ..packet.clone() },
                Segment { class: 3, ..packet.clone() },
                Segment { dont_fragment: false, ..packet.clone() },
                Segment { hops: 255, ..packet.clone() },
                Segment { hops: 2, ..packet.clone() },
            ] {
                let sent = world.send(&packet);
                assert_eq!(sent.reason, Reason::Flow, "{family:?} {method:?}");
                if translates(method) {
                    let reply = world.reply(&packet, &sent);
                    world.expect_reply(&packet, &reply);
                    world.expect_reply(&packet, &reply.payload(b"from"));
                }
            }
            for hops in [0, 1] {
                let row = Segment { hops, ..packet.clone() };
                assert_eq!(world.send(&row).reason, Reason::TtlExceeded, "{family:?} {method:?}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_handshake_opens_a_flow_with_its_second_packet() {
    for (family, method) in all() {
        for flags in [0, MOVED] {
            let mut world = World::new(family, method, 3);
            world.service(|record| record.flags |= flags);
            let packet = world.tcp();
            let syn = world.send(&packet.flags(SYN));
            assert_eq!(syn.reason, Reason::Opening);
            assert_eq!(world.send(&packet.flags(SYN)).sender, syn.sender, "sent again");
            assert_eq!(world.flows(), []);
            if translates(method) {
                let reply = world.reply(&packet, &syn);
                world.expect_reply(&packet, &reply.flags(SYN | ACK));
            }
            let ack = world.send(&packet);
            assert_eq!((ack.reason, ack.to(), ack.sender), (Reason::NewFlow, syn.to(), syn.sender));
            assert_eq!(world.flows().len(), world.halves());
            let data = world.send(&packet);
            assert_eq!((data.reason, data.to(), data.sender), (Reason::Flow, syn.to(), syn.sender));
            if translates(method) {
                let reply = world.reply(&packet, &syn);
                world.expect_reply(&packet, &reply);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_backends_port_is_the_clients_where_none_is_configured() {
    for (family, method) in all() {
        for (configured, at_backend) in [(0, 443), (BACKEND_PORT, BACKEND_PORT)] {
            let mut world = World::new(family, method, 1);
            world.listen(service_address(family, 10), 443, world::SERVICE);
            world.backend(0, |record| record.port = configured.to_be());
            for transport in TRANSPORTS {
                let packet = world.request(transport).to_port(443);
                let sent = world.establish(&packet);
                // The world holds that this port is the one of the packet that left.
                assert_eq!(world.at_backend(0, 443).port(), at_backend);
                if translates(method) {
                    let reply = world.reply(&packet, &sent);
                    world.expect_reply(&packet, &reply);
                }
            }
        }
    }
}

/// With the port kept, two listen ports of one client port are two flows that the backend tells apart.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_client_port_may_be_used_towards_two_ports_that_the_backend_tells_apart() {
    for (family, method) in translating() {
        let mut world = World::new(family, method, 1);
        world.listen(service_address(family, 10), 443, world::SERVICE);
        world.backend(0, |record| record.port = 0);
        for transport in TRANSPORTS {
            let packets = [PORT, 443].map(|port| world.request(transport).to_port(port));
            let sent = packets.each_ref().map(|packet| world.establish(packet));
            for (packet, sent) in packets.iter().zip(&sent) {
                let reply = world.reply(packet, sent);
                world.expect_reply(packet, &reply);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_whose_ends_have_both_closed_it_makes_room_for_another_of_the_same_ports() {
    for (family, method) in translating() {
        let mut world = World::new(family, method, 1);
        world.service(|record| record.flags |= MOVED);
        let packet = world.tcp();
        let sent = world.establish(&packet);
        world.send(&packet.flags(FIN | ACK));
        let reply = world.reply(&packet, &sent);
        world.expect_reply(&packet, &reply.flags(FIN | ACK));
        assert_eq!(world.send(&packet.flags(SYN)).reason, Reason::Opening);
        let again = world.send(&packet);
        assert_eq!(again.reason, Reason::NewFlow);
        let reply = world.reply(&packet, &again);
        world.expect_reply(&packet, &reply);
        assert_eq!(world.flows().len(), 2);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_a_backend_sends_by_tunnel_and_direct_does_not_come_this_way() {
    for (family, method) in all().filter(|(_, method)| !translates(*method)) {
        let mut world = World::new(family, method, 1);
        let packet = world.tcp();
        let sent = world.establish(&packet);
        let reply = world.reply(&packet, &sent).bytes();
        world.node.rows(&[("not rewritten", reply, Action::Pass, Reason::NoService, None)]);
    }
}
