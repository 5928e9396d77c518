//! From the first packet to an established flow, and what happens while a pool is changing.

use lb_common::backend::{Backend, RESOLVED};
use lb_common::reason::Reason;
use lb_common::service::{Method, NO_TABLE};

use crate::fixture::{Action, Node, PREVIOUS_TABLE, TABLE, backend, delivered, reply, returned, tcp, udp};
use crate::flows::METHODS;
use crate::packet::{ACK, RST, SYN};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_nat_handshake_is_half_open_until_the_client_answers() {
    let mut node = Node::new(Method::Nat);
    let syn_ack = reply(&tcp(), 0).flags(SYN | ACK);
    node.rows(&[("nothing opened", syn_ack.bytes(), Action::Pass, Reason::NoService, None)]);
    node.expect("SYN", &tcp().flags(SYN), Reason::Opening, 0);
    node.expect("SYN again", &tcp().flags(SYN), Reason::Opening, 0);
    assert_eq!(node.flows(), []);
    node.expect_reply("SYN-ACK", &syn_ack);
    node.expect_reply("SYN-ACK again", &syn_ack);
    assert_eq!(node.flows(), []);
    node.establish(&tcp(), 0);
    assert_eq!(node.flows().len(), 2);
    node.expect_reply("data", &reply(&tcp(), 0));
    node.expect("data", &tcp(), Reason::Flow, 0);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_refused_nat_handshake_reaches_the_client() {
    let mut node = Node::new(Method::Nat);
    node.expect("SYN", &tcp().flags(SYN), Reason::Opening, 0);
    node.expect_reply("RST", &reply(&tcp(), 0).flags(RST | ACK));
    assert_eq!(node.flows(), []);
    node.expect("tries again", &tcp().flags(SYN), Reason::Opening, 0);
    node.expect("gives up", &tcp().flags(RST), Reason::Untracked, 0);
    assert_eq!(node.flows(), []);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_packet_back_without_a_hop_left_is_dropped_while_half_open() {
    let mut node = Node::new(Method::Nat);
    node.expect("SYN", &tcp().flags(SYN), Reason::Opening, 0);
    let back = reply(&tcp(), 0).flags(SYN | ACK);
    node.rows(&[("no hop left", back.ttl(1).bytes(), Action::Drop, Reason::TtlExceeded, None)]);
    assert_eq!(node.send(&back).frame, returned(&back));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_handshake_under_way_keeps_its_backend_when_the_pool_changes() {
    for method in METHODS {
        let mut node = Node::new(method);
        let (syn, ack) = (tcp().flags(SYN), tcp());
        node.expect("SYN by the old table", &syn, Reason::Opening, 0);
        node.expect("first datagram", &udp(), Reason::Opening, 0);
        node.replace_table_by_backend_1(true);
        node.establish(&ack, 0);
        node.establish(&udp(), 0);
        node.expect("data", &ack, Reason::Flow, 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_syn_that_the_new_table_moves_is_remembered() {
    for method in METHODS {
        let mut node = Node::new(method);
        node.replace_table_by_backend_1(true);
        node.expect("SYN by the new table", &tcp().flags(SYN), Reason::Opening, 1);
        node.establish(&tcp(), 1);
        node.expect("data", &tcp(), Reason::Flow, 1);
        node.establish(&tcp().port(41_000), 0);
        node.expect("a datagram is never midway", &udp(), Reason::Opening, 1);
        node.establish(&udp(), 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_previous_table_counts_only_where_its_backend_serves() {
    for method in METHODS {
        let mut node = Node::new(method);
        node.replace_table_by_backend_1(true);
        node.backend(0, &Backend { flags: RESOLVED, ..backend(0) });
        node.establish(&tcp(), 1);
        node.service(TABLE, 99);
        node.establish(&tcp().port(41_000), 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn connections_midway_go_on_while_nobody_takes_new_ones() {
    for method in METHODS {
        let mut node = Node::new(method);
        node.expect("SYN", &tcp().flags(SYN), Reason::Opening, 0);
        node.replace_table_by_backend_1(true);
        node.service(NO_TABLE, PREVIOUS_TABLE);
        let syn = tcp().port(41_000).flags(SYN).bytes();
        node.rows(&[("new", syn, Action::Drop, Reason::NoBackend, None)]);
        node.establish(&tcp(), 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_handshake_whose_backend_stops_serving_is_hashed_again() {
    for method in METHODS {
        let mut node = Node::new(method);
        node.expect("SYN", &tcp().flags(SYN), Reason::Opening, 0);
        node.expect("datagram", &udp(), Reason::Opening, 0);
        node.replace_table_by_backend_1(false);
        node.backend(0, &Backend { flags: RESOLVED, ..backend(0) });
        let moved = node.send(&tcp().flags(SYN));
        assert_eq!((moved.reason, moved.frame), (Reason::Opening, delivered(&tcp().flags(SYN), method, 1)));
        node.establish(&tcp(), 1);
        let moved = node.send(&udp());
        assert_eq!(moved.frame, delivered(&udp(), method, 1));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn datagrams_count_as_a_flow_from_the_second_on() {
    for method in METHODS {
        let mut node = Node::new(method);
        node.expect("first", &udp(), Reason::Opening, 0);
        assert_eq!(node.flows(), []);
        node.establish(&udp(), 0);
        node.expect("third", &udp(), Reason::Flow, 0);
        assert_eq!(node.flows().len(), if method == Method::Nat { 2 } else { 1 });
    }
}
