//! Established flows: who gets an entry, and what can't take it away.

use std::net::SocketAddrV4;

use evenkeel::dataplane::Sizes;
use lb_common::addr::V4;
use lb_common::backend::{Backend, RESOLVED, SERVING};
use lb_common::flow::{FlowKey, Ports, WAYS};
use lb_common::hash::{flow_hash, table_entry};
use lb_common::limits::TABLE_ENTRIES;
use lb_common::reason::Reason;
use lb_common::service::{Method, NO_TABLE};

use crate::fixture::{
    Action, CLIENT, Node, SERVICE, TABLE, backend, backend_address, delivered, reply, request, tcp, udp,
};
use crate::packet::{ACK, FIN, Packet, RST, SYN, Transport};

pub(crate) const METHODS: [Method; 3] = [Method::Nat, Method::Tunnel, Method::Direct];

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_new_flow_goes_where_the_table_says_at_its_hash() {
    let mut node = Node::new(Method::Nat);
    node.backend(1, &backend(1));
    let table: Vec<u32> = (0..TABLE_ENTRIES).map(|entry| entry % 2).collect();
    node.plane.tables.write(TABLE, &table).unwrap();
    for port in 30_000..30_200 {
        let packet = tcp().port(port);
        let key = FlowKey {
            source: V4::from(*CLIENT.ip()),
            destination: V4::from(*SERVICE.ip()),
            ports: Ports { source: port.to_be(), destination: SERVICE.port().to_be() },
            protocol: 6,
        };
        let number = table[table_entry((flow_hash(&key) >> 32) as u32) as usize];
        node.establish(&packet, number);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_established_flow_stays_when_the_table_is_replaced() {
    for method in METHODS {
        let mut node = Node::new(method);
        let (tcp, udp) = (tcp(), udp());
        node.establish(&tcp, 0);
        node.expect("UDP", &udp, Reason::Opening, 0);
        node.establish(&udp, 0);
        node.replace_table_by_backend_1(false);
        for packet in [&tcp, &udp, &tcp.flags(SYN), &tcp.flags(FIN | ACK), &tcp] {
            node.expect("stays", packet, Reason::Flow, 0);
        }
        node.establish(&tcp.port(41_000), 1);
        node.service(NO_TABLE, NO_TABLE);
        node.expect("stays without any table", &udp, Reason::Flow, 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn both_halves_of_a_nat_flow_come_and_go_together() {
    let mut node = Node::new(Method::Nat);
    node.establish(&tcp(), 0);
    let flows = node.flows();
    assert_eq!(flows.len(), 2);
    // Each end's packets find the flow, and what they need of the other end is the same.
    let forward = flows.iter().find(|flow| flow.is_forward()).unwrap();
    let back = flows.iter().find(|flow| !flow.is_forward()).unwrap();
    assert_eq!(forward.key.source, back.key.destination);
    assert_eq!(forward.key.ports.source, back.key.ports.destination);
    assert_eq!((forward.hop, forward.backend), (back.hop, back.backend));
    node.backend(0, &Backend { flags: RESOLVED, ..backend(0) });
    node.rows(&[("its backend is down", tcp().bytes(), Action::Drop, Reason::NoBackend, None)]);
    assert_eq!(node.flows(), []);
    node.rows(&[("reply", reply(&tcp(), 0).bytes(), Action::Pass, Reason::NoService, None)]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_entry_for_each_flow_by_tunnel_and_direct() {
    for method in [Method::Tunnel, Method::Direct] {
        let mut node = Node::new(method);
        node.establish(&tcp(), 0);
        assert_eq!(node.flows().len(), 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flood_larger_than_the_half_open_table_evicts_no_established_flow() {
    for method in METHODS {
        let mut node = Node::sized(method, 1024, 512);
        for port in 1..=100 {
            node.establish(&tcp().port(port), 0);
        }
        for number in 0..4096_u32 {
            let source = SocketAddrV4::new((0x6464_0000 + number / 16).into(), 1000 + (number % 16) as u16);
            let frame = tcp().from(source).flags(SYN).bytes();
            assert_eq!(node.plane.run("evenkeel", &frame, 0).unwrap().action, Action::Transmit as u32);
            let frame = udp().from(source).bytes();
            assert_eq!(node.plane.run("evenkeel", &frame, 0).unwrap().action, Action::Transmit as u32);
        }
        node.recount();
        for port in 1..=100 {
            node.expect("still there", &tcp().port(port), Reason::Flow, 0);
        }
        assert_eq!(node.flows().len(), if method == Method::Nat { 200 } else { 100 });
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_client_may_use_a_port_again_once_both_sides_ended_the_connection() {
    for (by_client, by_backend) in [(FIN | ACK, FIN | ACK), (ACK, RST | ACK)] {
        let mut node = Node::new(Method::Nat);
        node.establish(&tcp(), 0);
        node.replace_table_by_backend_1(false);
        node.expect("SYN of a connection that goes on", &tcp().flags(SYN), Reason::Flow, 0);
        node.expect("the client ends", &tcp().flags(by_client), Reason::Flow, 0);
        node.expect_reply("the backend ends", &reply(&tcp(), 0).flags(by_backend));
        node.expect("what is still on its way", &tcp(), Reason::Flow, 0);
        node.expect("opened again", &tcp().flags(SYN), Reason::Opening, 1);
        node.establish(&tcp(), 1);
        node.expect_reply("from the new backend", &reply(&tcp(), 1));
        let old = reply(&tcp(), 0).bytes();
        node.rows(&[("not the old one", old, Action::Pass, Reason::NoService, None)]);
    }
}

/// Whoever knows addresses and ports can forge what the client's side shows.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_forged_end_and_syn_take_no_flow_from_its_backend() {
    for method in METHODS {
        for forged in [RST, FIN | ACK] {
            let mut node = Node::new(method);
            node.establish(&tcp(), 0);
            node.replace_table_by_backend_1(false);
            node.expect("forged", &tcp().flags(forged), Reason::Flow, 0);
            node.expect("forged", &tcp().flags(SYN), Reason::Flow, 0);
            node.expect("the client goes on", &tcp(), Reason::Flow, 0);
            assert!(node.flows().iter().all(|flow| !flow.fin && !flow.rst));
        }
    }
}

/// The port of a connection that only the client ended may be used again too, towards the same backend.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_connection_that_the_client_reset_can_be_opened_again() {
    for method in METHODS {
        let mut node = Node::new(method);
        node.establish(&tcp(), 0);
        node.expect("reset", &tcp().flags(RST), Reason::Flow, 0);
        node.expect("opened again", &tcp().flags(SYN), Reason::Flow, 0);
        if method == Method::Nat {
            node.expect_reply("SYN-ACK", &reply(&tcp(), 0).flags(SYN | ACK));
        }
        node.expect("established again", &tcp(), Reason::Flow, 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_packet_of_a_client_enters_no_flow_into_the_table() {
    for method in METHODS {
        let mut node = Node::sized(method, 64, 1024);
        for port in 1..5000 {
            node.expect("flood", &tcp().port(port), Reason::Opening, 0);
        }
        assert_eq!(node.flows(), []);
        node.establish(&udp(), 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn flows_of_a_backend_that_stopped_serving_are_hashed_again() {
    for method in METHODS {
        let mut node = Node::new(method);
        node.establish(&tcp(), 0);
        node.replace_table_by_backend_1(false);
        node.expect("drains", &tcp(), Reason::Flow, 0);
        node.backend(0, &Backend { flags: RESOLVED, ..backend(0) });
        node.establish(&tcp(), 1);
        node.backend(0, &backend(0));
        node.expect("stays with the new one", &tcp(), Reason::Flow, 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn flows_do_not_follow_a_number_that_is_given_to_another_backend() {
    for method in METHODS {
        let mut node = Node::new(method);
        node.establish(&tcp(), 0);
        node.replace_table_by_backend_1(false);
        node.backend(0, &Backend { flags: SERVING | RESOLVED, ..backend(5) });
        node.establish(&tcp(), 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_service_without_backends_drops_what_is_new() {
    for method in METHODS {
        let mut node = Node::new(method);
        let row = |packet: Packet| ("new", packet.bytes(), Action::Drop, Reason::NoBackend, None);
        for (table, what) in [(NO_TABLE, "no table"), (99, "a table that is not there")] {
            node.service(table, NO_TABLE);
            for packet in [tcp(), tcp().flags(SYN), tcp().flags(RST), udp()] {
                let (_, frame, action, reason, out) = row(packet);
                node.rows(&[(what, frame, action, reason, out)]);
            }
        }
        node.service(TABLE, NO_TABLE);
        for flags in [0, RESOLVED] {
            node.backend(0, &Backend { flags, ..backend(0) });
            node.rows(&[row(tcp()), row(tcp().flags(SYN)), row(udp())]);
        }
        assert_eq!(node.flows(), []);
    }
}

/// The smallest table has one set, so it is full when every slot is in use.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_full_table_keeps_what_it_has_and_new_flows_get_through_where_they_can_do_without() {
    let late = tcp().port(41_000);
    for method in METHODS {
        let halves = if method == Method::Nat { 2 } else { 1 };
        let mut node = Node::with(Sizes { sets4: 1, sets6: 1 }, method, 4096);
        for port in 0..WAYS as u16 / halves {
            node.establish(&tcp().port(1000 + port), 0);
        }
        node.expect("one packet needs no room", &late, Reason::Opening, 0);
        for packet in [&late, &late] {
            if method == Method::Nat {
                let row =
                    ("replies would be lost", packet.bytes(), Action::Drop, Reason::FlowTableFull, None);
                node.rows(&[row]);
            } else {
                node.expect("by the hash", packet, Reason::Untracked, 0);
            }
        }
        assert_eq!(node.flows().len(), WAYS as usize);
        node.replace_table_by_backend_1(false);
        for port in 0..WAYS as u16 / halves {
            node.expect("has an entry", &tcp().port(1000 + port), Reason::Flow, 0);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_forwarded_is_counted_for_its_backend_and_what_is_dropped_is_not() {
    for method in METHODS {
        let mut node = Node::new(method);
        let syn = tcp().flags(SYN);
        node.expect("SYN", &syn, Reason::Opening, 0);
        node.send(&tcp());
        node.send(&tcp());
        let bytes = 3 * syn.bytes().len() as u64;
        let mut counted = node.plane.counters.read(0).unwrap();
        assert_eq!((counted.packets, counted.bytes, counted.new_flows), (3, bytes, 1));
        node.expect("UDP", &udp(), Reason::Opening, 0);
        node.establish(&udp(), 0);
        counted = node.plane.counters.read(0).unwrap();
        assert_eq!((counted.packets, counted.new_flows), (5, 2));
        for packet in [tcp().ttl(1), udp().ttl(1), tcp().port(41_000).ttl(1)] {
            node.rows(&[("dropped", packet.bytes(), Action::Drop, Reason::TtlExceeded, None)]);
        }
        assert_eq!(node.plane.counters.read(0).unwrap().packets, counted.packets);
    }
}

/// A client may use one port for connections to two addresses; the backend can't tell the two apart.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_never_takes_over_the_replies_of_another() {
    for transport in [Transport::Tcp(ACK), Transport::Udp] {
        let mut node = Node::new(Method::Nat);
        let other_service = SocketAddrV4::new([203, 0, 113, 11].into(), 80);
        for protocol in [6, 17] {
            node.listen(other_service, protocol, Method::Nat, TABLE, NO_TABLE);
        }
        let packet = request(transport);
        node.send(&packet);
        node.send(&packet);
        let second = Packet { destination: other_service, ..packet.clone() };
        for _ in 0..2 {
            node.rows(&[("no way back", second.bytes(), Action::Drop, Reason::ReplyTaken, None)]);
        }
        node.expect_reply("goes to the first", &reply(&packet, 0));
        assert_eq!(node.flows().len(), 2);
        let elsewhere = delivered(&packet, Method::Nat, 0);
        node.rows(&[("the first", packet.bytes(), Action::Transmit, Reason::Flow, Some(elsewhere))]);
        assert_eq!(backend_address(0), reply(&packet, 0).source);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_port_that_was_used_towards_one_address_can_be_used_towards_another_once_that_connection_is_over() {
    let ends: [(u8, u8); 2] = [(FIN | ACK, FIN | ACK), (ACK, RST)];
    for (by_client, by_backend) in ends {
        let mut node = Node::new(Method::Nat);
        let other = SocketAddrV4::new([203, 0, 113, 11].into(), 80);
        node.listen(other, 6, Method::Nat, TABLE, NO_TABLE);
        let second = Packet { destination: other, ..tcp() };
        let syn = second.flags(SYN);
        node.establish(&tcp(), 0);
        node.rows(&[("still open", syn.bytes(), Action::Drop, Reason::ReplyTaken, None)]);
        node.expect("client ends", &tcp().flags(by_client), Reason::Flow, 0);
        node.send(&reply(&tcp(), 0).flags(by_backend));

        assert_eq!(node.send(&syn).reason, Reason::Opening);
        for flags in [SYN | ACK, ACK] {
            let seen = node.send(&reply(&second, 0).flags(flags));
            assert_eq!((seen.reason, &seen.frame[26..30]), (Reason::Reply, &[203, 0, 113, 11][..]));
            assert_ne!(node.send(&second).reason, Reason::ReplyTaken);
        }
        assert_eq!(node.flows().len(), 2);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tunnel_flow_that_ends_takes_no_replies_from_a_nat_flow_to_the_same_backend() {
    let mut node = Node::new(Method::Nat);
    let tunnelled = SocketAddrV4::new([203, 0, 113, 11].into(), 80);
    node.listen(tunnelled, 6, Method::Tunnel, TABLE, NO_TABLE);
    node.listen(tunnelled, 17, Method::Tunnel, TABLE, NO_TABLE);
    node.establish(&tcp(), 0);
    let second = Packet { destination: tunnelled, ..tcp() };
    for (flags, reason) in
        [(ACK, Reason::Opening), (ACK, Reason::NewFlow), (FIN | ACK, Reason::Flow), (SYN, Reason::Flow)]
    {
        assert_eq!(node.send(&second.flags(flags)).reason, reason);
    }
    node.expect_reply("nat", &reply(&tcp(), 0));
    node.expect("half-open nat", &udp(), Reason::Opening, 0);
    for _ in 0..2 {
        node.send(&Packet { destination: tunnelled, ..udp() });
    }
    node.expect_reply("half-open nat", &reply(&udp(), 0));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_frame_for_another_host_opens_no_flow_here() {
    for method in METHODS {
        let mut node = Node::new(method);
        for transport in [Transport::Tcp(SYN), Transport::Tcp(ACK), Transport::Udp] {
            let mut other = request(transport);
            other.to_mac = [2, 0, 0, 0, 0, 9];
            node.rows(&[("flooded", other.bytes(), Action::Pass, Reason::OtherHost, None)]);
        }
        assert!(node.flows().is_empty());
    }
}
