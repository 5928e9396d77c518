//! Out of another interface than the one a packet came in by.

use std::collections::BTreeSet;
use std::process::Command;

use evenkeel::config::model::{Interface, XdpMode};
use lb_common::backend::{Backend, NextHop};
use lb_common::reason::Reason;
use lb_common::service::Method;
use lb_common::station::Station;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::fixture::{
    Action, INSIDE_MAC, INTERFACE, Node, backend, delivered, reply, returned, station, tcp,
};
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
fn replies_leave_by_the_interface_that_the_client_comes_in_by() {
    let outside = second_interface();
    let mut node = Node::new(Method::Nat);
    // Only an interface that XDP runs on can be named as the one a test run comes in by.
    assert!(Command::new("ip").args(["link", "set", "inside", "up"]).status().unwrap().success());
    let interface = Interface { name: "inside".to_owned(), mode: XdpMode::Native };
    node.plane.attach("evenkeel", &interface, None).unwrap();
    node.plane.interfaces.set(&BTreeSet::from([INTERFACE, outside])).unwrap();
    let inside = Station { address: INSIDE_MAC, ..station(INTERFACE) };
    node.plane.stations.set(&BTreeSet::from([station(INTERFACE), inside, station(outside)])).unwrap();
    let back = reply(&tcp(), 0);
    let row = |what, action| [(what, back.bytes(), action, Reason::Reply, Some(returned(&back)))];

    node.ingress = outside;
    let out = Some(delivered(&tcp(), Method::Nat, 0));
    for reason in [Reason::Opening, Reason::NewFlow] {
        node.rows(&[("from outside", tcp().bytes(), Action::Redirect, reason, out.clone())]);
    }
    node.ingress = 0;
    node.plane.interfaces.set(&BTreeSet::from([INTERFACE])).unwrap();
    node.rows(&[("not listed", back.bytes(), Action::Drop, Reason::InterfaceNotListed, None)]);
    node.plane.interfaces.set(&BTreeSet::from([INTERFACE, outside])).unwrap();
    node.rows(&row("to the outside", Action::Redirect));
    node.expect("the client moved to the other interface", &tcp(), Reason::Flow, 0);
    node.rows(&row("to that interface", Action::Transmit));
}
