//! The two halves of a flow cannot drift apart: after a sweep a flow is whole or gone, whatever became of one half.

use std::time::Duration;

use evenkeel::desired::Family;
use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::packet::Transport;
use crate::world::segment::Segment;
use crate::world::{Sent, TRANSPORTS, World, translating};

fn established(family: Family, method: Method, transport: Transport) -> (World, Segment, Sent) {
    let mut world = World::new(family, method, 2);
    let packet = world.request(transport);
    let sent = world.establish(&packet);
    (world, packet, sent)
}

/// Takes halves of one direction out of use behind the back of the others.
fn kill(world: &World, forward: bool) {
    let sweeper = world.node.plane.sweeper.as_ref().unwrap();
    let numbers = |flows: Vec<(u32, bool)>| {
        flows.into_iter().filter(|(_, is_forward)| *is_forward == forward).map(|(number, _)| number)
    };
    let is_forward = |state: u32| state & lb_common::flow::REPLY == 0;
    let v4 = sweeper.ipv4.live().map(|(number, half)| (number, is_forward(half.state))).collect();
    for number in numbers(v4) {
        assert!(sweeper.ipv4.kill(number));
    }
    let v6 = sweeper.ipv6.live().map(|(number, half)| (number, is_forward(half.state))).collect();
    for number in numbers(v6) {
        assert!(sweeper.ipv6.kill(number));
    }
}

/// Each half has its turn to be looked at in one sweep of sixteen.
fn sweep_all(world: &mut World) {
    for _ in 0..17 {
        world.sweep_after(Duration::ZERO);
    }
}

/// It works in both directions, as two halves, or no trace is left and it opens anew.
fn is_whole_or_gone(world: &mut World, packet: &Segment, before: &Sent) -> bool {
    let halves = world.flows().len();
    if halves == 0 {
        let sent = world.establish(packet);
        let reply = world.reply(packet, &sent);
        world.expect_reply(packet, &reply);
        return false;
    }
    assert_eq!(halves, 2);
    let reply = world.reply(packet, before);
    world.expect_reply(packet, &reply);
    let sent = world.send(packet);
    assert_eq!((sent.reason, sent.to(), sent.sender), (Reason::Flow, before.to(), before.sender));
    world.expect_reply(packet, &reply);
    true
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_that_lost_a_half_is_whole_or_gone_after_a_sweep() {
    for (family, method) in translating() {
        for transport in TRANSPORTS {
            for forward in [true, false] {
                let (mut world, packet, sent) = established(family, method, transport);
                kill(&world, forward);
                assert_eq!(world.flows().len(), 1);
                sweep_all(&mut world);
                let whole = is_whole_or_gone(&mut world, &packet, &sent);
                // Only with `fullnat` the reply half does not say who the client is.
                assert_eq!(whole, method == Method::Nat || !forward, "{family:?} {method:?} {forward}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_that_lost_a_half_and_goes_on_before_the_sweep_is_whole_after_it() {
    for (family, method) in translating() {
        for transport in TRANSPORTS {
            for forward in [true, false] {
                let (mut world, packet, first) = established(family, method, transport);
                kill(&world, forward);
                let reply = world.reply(&packet, &first);
                let answered = world.node.send_bytes(&reply.bytes()).reason;
                // A reply finds its way or is stopped; it never goes to somebody else.
                let lost = [Reason::NoWayBack, Reason::NoService];
                assert!(
                    if forward && method == Method::Nat {
                        answered == Reason::Reply
                    } else {
                        lost.contains(&answered)
                    },
                    "{family:?} {method:?} {forward}: {answered:?}"
                );
                let mut last = world.send(&packet);
                for _ in 0..2 {
                    last = world.send(&packet);
                }
                assert_eq!(last.to(), first.to());
                sweep_all(&mut world);
                assert!(is_whole_or_gone(&mut world, &packet, &last), "{family:?} {method:?} {forward}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_kill_that_names_either_half_takes_both() {
    for (family, method) in translating() {
        for forward in [true, false] {
            let (mut world, packet, sent) = established(family, method, Transport::Udp);
            let other = world.tcp().port(41_000);
            let kept = world.establish(&other);
            let pool = world.pool();
            let sweeper = world.node.plane.sweeper.as_ref().unwrap();
            let killed =
                sweeper.kill_where(&pool, |flow| flow.is_forward() == forward && flow.key.protocol == 17);
            assert_eq!(killed, 2, "{family:?} {method:?}");
            let reply = world.reply(&packet, &sent);
            assert_eq!(world.node.send_bytes(&reply.bytes()).reason, Reason::NoService);
            world.sweep_after(Duration::ZERO);
            assert_eq!(world.flows().len(), 2);
            assert_eq!(world.send(&other).sender, kept.sender);
            world.establish(&packet);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flush_leaves_nothing_and_what_comes_next_opens_anew() {
    for (family, method) in translating() {
        let (mut world, packet, sent) = established(family, method, Transport::Udp);
        let pool = world.pool();
        assert_eq!(world.node.plane.sweeper.as_ref().unwrap().kill_where(&pool, |_| true), 2);
        assert_eq!(world.flows(), []);
        let reply = world.reply(&packet, &sent);
        assert_eq!(world.node.send_bytes(&reply.bytes()).reason, Reason::NoService, "{family:?} {method:?}");
        let census = world.sweep_after(Duration::ZERO);
        assert_eq!(census.entries(), 0);
        let sent = world.establish(&packet);
        let reply = world.reply(&packet, &sent);
        world.expect_reply(&packet, &reply);
    }
}

/// Silence is that of both ends: a flow expires whole, and the client's packets alone, or the backend's, keep it whole.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn halves_expire_together() {
    for (family, method) in translating() {
        for transport in TRANSPORTS {
            let (mut world, packet, sent) = established(family, method, transport);
            world.sweep_after(Duration::from_secs(10));
            assert!(is_whole_or_gone(&mut world, &packet, &sent), "{family:?} {method:?}");
            let census = world.sweep_after(Duration::from_secs(1_000_000));
            assert_eq!((census.expired, census.entries()), (1, 0));
            assert!(!is_whole_or_gone(&mut world, &packet, &sent));
        }
    }
}
