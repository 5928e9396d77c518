//! Out of another interface than the one a packet came in by.

use std::collections::BTreeSet;
use std::process::Command;

use lb_common::backend::{Backend, NextHop};
use lb_common::reason::Reason;
use lb_common::service::Method;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::fixture::{Action, Node, backend, delivered, reply, returned, tcp};
use crate::packet::SYN;

/// A namespace of this thread's own, which ends with it, with one more interface.
fn second_interface() -> u32 {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let added = Command::new("ip").args("link add inside type veth peer name far".split(' ')).status();
    assert!(added.unwrap().success());
    if_nametoindex("inside").unwrap()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn packets_leave_by_the_interfaces_of_the_configuration_only() {
    let inside = second_interface();
    for method in crate::flows::METHODS {
        let mut node = Node::new(method);
        let record = backend(0);
        node.backend(0, &Backend { next_hop: NextHop { ifindex: inside, ..record.next_hop }, ..record });
        let packet = tcp();
        let unlisted = |packet: &crate::packet::Packet| {
            ("unlisted", packet.bytes(), Action::Drop, Reason::InterfaceNotListed, None)
        };
        node.rows(&[unlisted(&packet), unlisted(&packet), unlisted(&packet.port(41_000).flags(SYN))]);
        node.plane.interfaces.set(&BTreeSet::from([inside])).unwrap();
        let out = Some(delivered(&packet, method, 0));
        node.rows(&[("listed", packet.bytes(), Action::Redirect, Reason::Flow, out)]);
        node.plane.interfaces.set(&BTreeSet::new()).unwrap();
        node.rows(&[unlisted(&packet)]);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn replies_leave_by_the_interface_that_the_client_came_in_by() {
    let inside = second_interface();
    let mut node = Node::new(Method::Nat);
    node.expect("the client came in by the first interface", &tcp(), Reason::NewFlow, 0);
    // The same packet as if the client came in by the second one: written into both halves by the next packet.
    let record = backend(0);
    node.backend(0, &Backend { next_hop: NextHop { ifindex: inside, ..record.next_hop }, ..record });
    node.plane.interfaces.set(&BTreeSet::from([inside])).unwrap();
    let out = Some(delivered(&tcp(), Method::Nat, 0));
    node.rows(&[("to the inside", tcp().bytes(), Action::Redirect, Reason::Flow, out)]);
    let back = reply(&tcp(), 0);
    let out = Some(returned(&back));
    node.rows(&[("back", back.bytes(), Action::Transmit, Reason::Reply, out)]);
}
