//! Expiry by user space, on the real map.

use std::time::{Duration, Instant};

use evenkeel::dataplane::clock::Clock;
use evenkeel::dataplane::flow_table::grace;
use evenkeel::dataplane::flow_table::pool::{Member, Pool};
use evenkeel::dataplane::sweep::{Census, Now, Orders};
use lb_common::backend::Backend;
use lb_common::reason::Reason;
use lb_common::service::Method;
use nix::time::{ClockId, clock_gettime};

use crate::fixture::{Action, Node, backend, reply, tcp, udp};
use crate::packet::{ACK, FIN, Packet, RST};

/// Sweeps once, as if this long had passed.
fn sweep_after(node: &mut Node, silence: Duration) -> Census {
    let clock = Clock::measure(&mut node.plane).unwrap();
    let monotonic = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    let now = Now { jiffies: clock.jiffies(monotonic + silence), ticks: &|time| clock.ticks(time) };
    let sweeper = node.plane.sweeper.as_mut().unwrap();
    let members = [0, 1].map(|number| {
        let Backend { identity, address, port, .. } = backend(number);
        (number, Member { identity, address, port })
    });
    let orders = Orders { pool: Pool::new(members, []).into(), ..Orders::default() };
    sweeper.sweep(&orders, now, grace::wait)
}

fn gone(node: &mut Node, packet: &Packet, number: u32) {
    let back = reply(packet, number).bytes();
    node.rows(&[("reply", back, Action::Pass, Reason::NoService, None)]);
    assert_ne!(node.send(packet).reason, Reason::Flow);
}

/// The time is written anew some jiffies after the last time only.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn packets_of_either_direction_say_that_the_flow_goes_on() {
    let mut node = Node::new(Method::Nat);
    node.establish(&tcp(), 0);
    let seen = |node: &Node| node.flows().iter().map(|half| half.last_seen).collect::<Vec<_>>();
    for packet in [tcp(), reply(&tcp(), 0)] {
        let (before, until) = (seen(&node), Instant::now() + Duration::from_secs(60));
        while seen(&node) == before {
            node.send(&packet);
            assert!(Instant::now() < until, "it is never written");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn both_halves_expire_together_whichever_of_them_ended_the_flow() {
    let mut node = Node::new(Method::Nat);
    let by_client = tcp().port(1);
    let by_backend = tcp().port(2);
    let reset = tcp().port(3);
    let open = tcp().port(4);
    for packet in [&by_client, &by_backend, &reset, &open] {
        node.establish(packet, 0);
    }
    node.expect("FIN", &by_client.flags(FIN | ACK), Reason::Flow, 0);
    node.expect_reply("FIN", &reply(&by_backend, 0).flags(FIN | ACK));
    node.expect_reply("RST", &reply(&reset, 0).flags(RST));

    let census = sweep_after(&mut node, Duration::from_secs(130));

    assert_eq!((census.expired, census.entries()), (3, 2));
    assert_eq!(census.all.get(&0), Some(&1));
    assert_eq!(census.active.get(&0), Some(&1));
    for packet in [&by_client, &by_backend, &reset] {
        gone(&mut node, packet, 0);
    }
    node.expect("goes on", &open, Reason::Flow, 0);
    node.expect_reply("goes on", &reply(&open, 0));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_was_never_ended_expires_by_the_times_of_its_protocol() {
    for method in crate::flows::METHODS {
        let mut node = Node::new(method);
        node.backend(1, &backend(1));
        node.establish(&tcp(), 0);
        node.expect("UDP", &udp(), Reason::Opening, 0);
        node.establish(&udp(), 0);
        let census = sweep_after(&mut node, Duration::from_secs(400));
        let entries = if method == Method::Nat { 2 } else { 1 };
        assert_eq!((census.expired, census.entries()), (1, entries));
        gone(&mut node, &udp(), 0);
        node.expect("goes on", &tcp(), Reason::Flow, 0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_table_takes_all_it_is_made_for_between_two_sweeps_and_is_swept_whole() {
    // Two entries each.
    const FLOWS: u16 = 32_768;
    const ALL: u64 = FLOWS as u64;
    let mut node = Node::sized(Method::Nat, 2 * u32::from(FLOWS), 4096);
    let send_all = |node: &mut Node, times| {
        for port in 1..=FLOWS {
            for _ in 0..times {
                node.plane.run("evenkeel", &tcp().port(port).bytes(), 0).unwrap();
            }
        }
    };
    let counted = |node: &Node| {
        let counts = node.plane.reasons.read().unwrap();
        let count = |reason| counts.iter().find(|(other, _)| *other == reason).unwrap().1;
        [Reason::Opening, Reason::NewFlow, Reason::Flow].map(count)
    };
    send_all(&mut node, 2);
    assert_eq!(counted(&node), [ALL, ALL, 0]);
    let census = sweep_after(&mut node, Duration::ZERO);
    assert_eq!((census.expired, census.entries()), (0, 2 * ALL));
    send_all(&mut node, 1);
    assert_eq!(counted(&node), [ALL, ALL, ALL]);

    node.recount();
    let census = sweep_after(&mut node, Duration::from_secs(1000));
    assert_eq!((census.expired, census.entries()), (ALL, 0));
    assert!(census.all.values().chain(census.active.values()).all(|flows| *flows == 0));
    gone(&mut node, &tcp().port(7), 0);
}
