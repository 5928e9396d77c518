//! Nodes on a virtual clock and a bad network: loss, delay, duplication, one-way links, partitions, restarts, clocks that
//! drift, interfaces that fail, priorities that change.
//!
//! What holds, whatever happened before:
//! - Once the network is whole there is one master among the healthy nodes within [`SETTLE`], and it stays.
//! - If all may preempt, it has the highest priority within the preemption delay.
//! - A node that does not run, or is not master and was not just now, holds no addresses (asserted after every event).
//! - While a master stops, hands over or gives way, some node holds them at every moment, if another one is healthy.
//! - On links that lose one direction for good the nodes come to rest.
//!
//! A failing seed fails again in the same way: `SEED=… cargo test vrrp::simulation`.

mod random;
mod scenarios;
mod world;

use std::time::Duration;

use self::world::{INTERVAL, Link, MAX_DELAY, MAX_PREEMPT_DELAY, World};
use super::machine::{Event, Tracking};
use crate::config::model::{Preempt, Priority};

/// Longer than any election: what is left of a hand-over (an interval and its margin), the longest down interval, and an
/// interval and a delay for a loser to hear, by the slowest clock.
const SETTLE: Duration = Duration::from_millis(1_000);

/// As many simulations as there are seeds, or the one of the environment.
fn for_seeds(seeds: u64, simulate: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let only = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        if std::panic::catch_unwind(|| simulate(seed)).is_err() {
            panic!("seed {seed} fails; the assertion is above");
        }
    }
}

#[test]
fn whatever_happened_a_whole_network_has_one_master_in_time_and_keeps_it() {
    for_seeds(4_000, |seed| drop(simulate_troubles(seed)));
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [1, 2, 3] {
        assert_eq!(simulate_troubles(seed).trace, simulate_troubles(seed).trace);
    }
}

#[test]
fn a_stop_or_a_hand_over_leaves_no_moment_without_a_master_if_another_node_is_healthy() {
    for_seeds(1_500, |seed| {
        let mut world = started(seed);
        world.run_for(2 * SETTLE);
        for _ in 0..4 {
            hand_over(&mut world);
        }
    });
}

#[test]
fn links_that_are_one_way_for_good_make_no_node_flap() {
    for_seeds(1_500, |seed| {
        let mut world = started(seed);
        for _ in 0..2 {
            cut_some_ways(&mut world);
            world.run_for(4 * SETTLE);
            let (masters, transitions) = (world.masters(), world.transitions);
            world.run_for(20 * INTERVAL);
            assert_eq!((world.masters(), world.transitions), (masters, transitions), "no flapping");
        }
        check_recovery(&mut world);
    });
}

fn started(seed: u64) -> World {
    let mut world = World::new(seed);
    for index in 0..world.nodes.len() {
        world.start_node(index);
        let pause = world.random.duration(5 * INTERVAL);
        world.run_for(pause);
    }
    world
}

fn simulate_troubles(seed: u64) -> World {
    let mut world = World::new(seed);
    for index in 0..world.nodes.len() {
        if world.random.chance(80) {
            world.start_node(index);
        }
        let pause = world.random.duration(5 * INTERVAL);
        world.run_for(pause);
    }
    for _ in 0..2 {
        for _ in 0..=world.random.below(6) {
            trouble(&mut world);
        }
        check_recovery(&mut world);
    }
    world
}

/// One misfortune, and some time with it.
fn trouble(world: &mut World) {
    let node = world.random.index(world.nodes.len());
    let channel = world.random.index(world.nodes[0].down.len());
    match world.random.below(12) {
        0 => world.event(node, Event::Stop),
        1 => world.kill(node),
        2 => world.start_node(node),
        3 => {
            world.kill(node);
            world.start_node(node);
        }
        4 => {
            let down = world.random.chance(60);
            world.set_interface(node, channel, down);
        }
        5 => reconfigure(world, node),
        6 => {
            let fault = world.random.chance(20).then(|| "ill".to_owned());
            let adjustment = world.random.below(300) as i32 - 200;
            world.track(node, Tracking { adjustment, fault });
        }
        7 => world.event(node, Event::Yield),
        8 => world.event(node, Event::Unyield),
        9 => world.change_channels(node),
        10 => cut_some_ways(world),
        _ => {
            for way in world.ways() {
                let link = match world.random.below(3) {
                    0 => Link::Whole,
                    1 => Link::Bad(world.random.below(100), world.random.below(100)),
                    _ => Link::Cut,
                };
                world.links.insert(way, link);
            }
        }
    }
    let pause = world.random.duration(10 * INTERVAL);
    world.run_for(pause);
}

fn reconfigure(world: &mut World, node: usize) {
    let priority = Priority::new(world.random.pick(&[1, 100, 150, 200, 255])).unwrap();
    let preempt = world.random.pick(&[Preempt::After(Duration::ZERO), Preempt::Never]);
    let interval = world.random.pick(&[INTERVAL, INTERVAL / 2]);
    let channel = world.random.index(world.nodes[node].config.channels.len());
    world.reconfigure(node, |config| {
        config.priority = priority;
        config.preempt = preempt;
        config.channels[channel].interval = interval;
    });
}

/// Each direction of each channel works or does not; sometimes all of a pair are alike.
fn cut_some_ways(world: &mut World) {
    let by_channel = world.random.chance(50);
    for (from, to, channel) in world.ways() {
        let link = match world.links.get(&(from, to, 0)) {
            Some(&first) if !by_channel && channel > 0 => first,
            _ => world.random.pick(&[Link::Whole, Link::Cut]),
        };
        world.links.insert((from, to, channel), link);
    }
}

/// The network is whole from here on, and so is each node but for what tracking says: one master within the bound, the
/// right one, and it stays.
fn check_recovery(world: &mut World) {
    world.links.clear();
    for node in 0..world.nodes.len() {
        for channel in 0..world.nodes[node].down.len() {
            world.set_interface(node, channel, false);
        }
    }
    world.run_for(SETTLE);
    let healthy = world.healthy().count();
    assert_eq!(world.masters().len(), healthy.min(1), "masters after the network became whole");

    let may_all_preempt = world.healthy().all(|node| {
        let yielded = node.machine.as_ref().is_some_and(|machine| machine.yielded());
        !yielded && node.config.preempt != Preempt::Never
    });
    // A master of lower priority may be followed for the delay.
    world.run_for(SETTLE + 2 * MAX_PREEMPT_DELAY);
    assert_eq!(world.masters().len(), healthy.min(1));
    if let (true, Some(&master)) = (may_all_preempt, world.masters().first()) {
        // A backup that was never master may have any address; priority alone decides.
        let best = world.healthy().filter_map(|node| node.priority()).max();
        assert_eq!(world.nodes[master].priority(), best, "the highest priority is master");
    }
    let (settled, transitions) = (world.masters(), world.transitions);
    world.run_for(20 * INTERVAL);
    assert_eq!((world.masters(), world.transitions), (settled, transitions), "no oscillation");
}

/// The master goes, by a stop or by command; one that stopped comes back.
fn hand_over(world: &mut World) {
    let &[master] = world.masters().as_slice() else { panic!("masters: {:?}", world.masters()) };
    world.must_serve = true;
    let event = world.random.pick(&[0, 1]);
    let event = if event == 0 { Event::Stop } else { Event::Yield };
    world.event(master, event);
    world.run_for(SETTLE);
    assert_ne!(world.masters(), [master], "it has handed over");
    // Nor when it comes back and preempts. Of three, two may take over together.
    world.must_serve = world.nodes.len() == 2;
    world.start_node(master);
    world.run_for(2 * SETTLE);
    world.must_serve = false;
}
