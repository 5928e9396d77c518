//! QUIC packets go to the backend that their connection id names.

use evenkeel::desired::Family;
use lb_common::backend::RESOLVED;
use lb_common::reason::Reason;
use lb_common::service::{CAPPED, Method, QuicKey};

use crate::world::segment::Segment;
use crate::world::{self, World, all, client, translates};

const LENGTH: u8 = 3;

/// Server ids: backend 1 has `a1 a1 a1`, and so on. The table knows backend 0 alone.
fn quic(family: Family, method: Method) -> World {
    let mut world = World::new(family, method, 4);
    world.table(&[0]);
    world.service(|record| record.quic_length = LENGTH);
    for number in 1..4_u32 {
        let key = QuicKey { id: id(number as u8), service: world::SERVICE };
        world.node.plane.quic.write(&key, &number).unwrap();
    }
    world
}

fn id(number: u8) -> [u8; 8] {
    let mut id = [0; 8];
    id[..LENGTH.into()].fill(0xa0 + number);
    id
}

/// A connection id with this server id (draft-ietf-quic-load-balancers section 5.2): an octet that says configuration and
/// length, the id, and a nonce.
fn connection_id(number: u8) -> Vec<u8> {
    [&[0x07][..], &id(number)[..LENGTH.into()], &[0x11, 0x22, 0x33, 0x44]].concat()
}

/// RFC 8999 section 5.1, with the type bits of RFC 9000 section 17.2.
fn long(kind: u8, connection_id: &[u8]) -> Vec<u8> {
    let head = [0xc0 | kind << 4, 0, 0, 0, 1, connection_id.len() as u8];
    [&head[..], connection_id, &[0; 40]].concat()
}

fn short(connection_id: &[u8]) -> Vec<u8> {
    [&[0x40][..], connection_id, &[0x99; 30]].concat()
}

const INITIAL: u8 = 0;
const ZERO_RTT: u8 = 1;
const HANDSHAKE: u8 = 2;
const RETRY: u8 = 3;

fn datagram(world: &World, port: u16, payload: &[u8]) -> Segment {
    world.udp().port(port).payload(payload)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_connection_id_says_the_backend_where_the_server_has_made_it() {
    for (family, method) in all() {
        let mut world = quic(family, method);
        let mut port = 1000;
        for number in 1..4_u8 {
            let id = connection_id(number);
            let rows = [
                ("short", short(&id), Reason::ConnectionId, u32::from(number)),
                ("handshake", long(HANDSHAKE, &id), Reason::ConnectionId, u32::from(number)),
                ("retry", long(RETRY, &id), Reason::ConnectionId, u32::from(number)),
                ("the client has made it up", long(INITIAL, &id), Reason::Opening, 0),
                ("the client has made it up", long(ZERO_RTT, &id), Reason::Opening, 0),
                ("unknown", short(&connection_id(9)), Reason::Opening, 0),
                ("unknown", long(HANDSHAKE, &connection_id(9)), Reason::Opening, 0),
                ("cut off", short(&id)[..4].to_vec(), Reason::Opening, 0),
                ("empty", Vec::new(), Reason::Opening, 0),
            ];
            for (what, payload, reason, backend) in rows {
                let packet = datagram(&world, port, &payload);
                let sent = world.send(&packet);
                assert_eq!((sent.reason, sent.to()), (reason, backend), "{family:?} {method:?} {what}");
                port += 1;
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_client_that_changes_its_address_stays_with_its_connection() {
    for (family, method) in all() {
        let mut world = quic(family, method);
        let initial = datagram(&world, 1000, &long(INITIAL, &[5; 8]));
        assert_eq!(world.send(&initial).to(), 0);
        for (port, network) in [(1000, 3), (1000, 4), (2000, 4)] {
            let packet = datagram(&world, port, &short(&connection_id(2))).from(client(family, network, 1));
            let moved = world.send(&packet);
            assert_eq!((moved.reason, moved.to()), (Reason::ConnectionId, 2));
            for reason in [Reason::NewFlow, Reason::Flow] {
                let sent = world.send(&packet);
                assert_eq!((sent.reason, sent.to()), (reason, 2), "{family:?} {method:?}");
                if translates(method) {
                    let reply = world.reply(&packet, &sent);
                    world.expect_reply(&packet, &reply);
                }
            }
        }
    }
}

/// What the client sends next names nobody: it goes where the last packet went.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_packet_without_an_id_follows_the_one_before() {
    for (family, method) in all() {
        let mut world = quic(family, method);
        let named = datagram(&world, 1000, &short(&connection_id(3)));
        assert_eq!(world.send(&named).to(), 3);
        let plain = datagram(&world, 1000, b"?");
        let sent = world.send(&plain);
        assert_eq!((sent.reason, sent.to()), (Reason::NewFlow, 3), "{family:?} {method:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_id_of_a_backend_that_is_down_counts_for_nothing() {
    for (family, method) in all() {
        let mut world = quic(family, method);
        world.backend(1, |record| record.flags = RESOLVED);
        let packet = datagram(&world, 1000, &short(&connection_id(1)));
        let sent = world.send(&packet);
        assert_eq!((sent.reason, sent.to()), (Reason::Opening, 0), "{family:?} {method:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_ids_of_one_service_are_none_of_another_and_tcp_has_none() {
    for family in Family::ALL {
        let mut world = quic(family, Method::Nat);
        world.another(9, |_| {});
        world.listen(world::service_address(family, 11), 80, 9);
        let packet = datagram(&world, 1000, &short(&connection_id(1)));
        let other = packet.to((world::service_address(family, 11), 80).into());
        assert_eq!(world.send(&other).to(), 0);
        let segment = world.tcp().payload(&short(&connection_id(1)));
        assert_eq!(world.send(&segment).to(), 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_id_of_a_backend_that_is_full_counts_for_nothing_but_who_is_there_stays() {
    for (family, method) in all() {
        let mut world = quic(family, method);
        world.service(|record| record.flags |= CAPPED);
        world.backend(1, |record| (record.high, record.low) = (2, 1));
        let [first, second, third] =
            [1000, 1001, 1002].map(|port| datagram(&world, port, &short(&connection_id(1))));
        for packet in [&first, &second] {
            let sent = world.send(packet);
            assert_eq!((sent.reason, sent.to()), (Reason::ConnectionId, 1), "{family:?} {method:?}");
        }
        let sent = world.send(&third);
        assert_eq!((sent.reason, sent.to()), (Reason::Opening, 0), "{family:?} {method:?}");
        for (packet, backend) in [(&first, 1), (&second, 1), (&third, 0)] {
            for reason in [Reason::NewFlow, Reason::Flow] {
                let sent = world.send(packet);
                assert_eq!((sent.reason, sent.to()), (reason, backend), "{family:?} {method:?}");
            }
        }
    }
}
