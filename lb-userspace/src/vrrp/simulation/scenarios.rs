//! What happens in a pair after one event.

use super::*;
use crate::vrrp::machine::Action;

/// Nodes of priority 150 and 100 that are both master, for not having heard each other.
fn split(seed: u64) -> World {
    let mut world = World::new(seed);
    world.nodes.truncate(2);
    for (node, priority) in world.nodes.iter_mut().zip([150, 100]) {
        node.config.priority = Priority::new(priority).unwrap();
        node.config.preempt = Preempt::After(Duration::ZERO);
    }
    for way in world.ways() {
        world.links.insert(way, Link::Cut);
    }
    world.start_node(0);
    world.start_node(1);
    world.run_for(SETTLE);
    assert_eq!(world.masters(), [0, 1]);
    world
}

/// Node 0 is master, node 1 is backup.
fn settled_pair(seed: u64) -> World {
    let mut world = split(seed);
    world.links.clear();
    world.run_for(SETTLE);
    assert_eq!(world.masters(), [0]);
    world
}

/// Of the world, for what a node with the slowest clock does in `duration`.
fn slowest(duration: Duration) -> Duration {
    duration * 100 / 95
}

#[test]
fn two_masters_that_hear_each_other_are_one_within_an_interval() {
    for_seeds(200, |seed| {
        let mut world = split(seed);
        let moment = world.random.duration(INTERVAL);
        world.run_for(moment);
        world.links.clear();
        world.run_for(slowest(INTERVAL) + MAX_DELAY);
        assert_eq!(world.masters(), [0]);
    });
}

#[test]
fn a_master_that_hears_another_without_being_heard_says_so() {
    for_seeds(50, |seed| {
        let mut world = split(seed);
        world.links.retain(|&(from, _, _), _| from == 0);
        world.run_for(2 * SETTLE);
        assert_eq!(world.masters(), [0, 1]);
        let told = world.trace.iter().filter(|(_, _, action)| matches!(action, Action::SecondMaster(_)));
        assert_eq!(told.count(), 1);
        let now = world.clock(0);
        let machine = world.nodes[0].machine.as_ref().expect("node 0 runs");
        assert!(machine.second_master(now));
        assert_eq!(machine.unheard_by(now).map(|peer| peer.priority), Some(100));
    });
}

#[test]
fn a_second_master_that_gives_way_was_not_deaf() {
    for_seeds(50, |seed| {
        let mut world = split(seed);
        world.links.clear();
        for _ in 0..100 {
            world.run_for(INTERVAL / 10);
            let machine = world.nodes[0].machine.as_ref().expect("node 0 runs");
            assert_eq!(machine.unheard_by(world.clock(0)), None);
        }
    });
}

#[test]
fn a_clean_stop_hands_over_within_the_skew_and_a_loss_within_the_down_interval() {
    for_seeds(100, |seed| {
        for (kill, limit) in [(false, INTERVAL), (true, 4 * INTERVAL)] {
            let mut world = settled_pair(seed);
            if kill {
                world.kill(0);
            } else {
                world.event(0, Event::Stop);
            }
            world.run_for(slowest(limit) + 2 * MAX_DELAY);
            assert!(world.masters().contains(&1));
            world.run_for(SETTLE);
            assert_eq!(world.masters(), [1]);
        }
    });
}

#[test]
fn an_interface_that_fails_on_one_channel_moves_all_to_the_other_node_and_back() {
    for_seeds(100, |seed| {
        let mut world = settled_pair(seed);
        let channel = world.random.index(world.nodes[0].down.len());
        world.set_interface(0, channel, true);
        world.run_for(slowest(4 * INTERVAL) + MAX_DELAY);
        assert_eq!(world.masters(), [1]);
        world.set_interface(0, channel, false);
        world.run_for(SETTLE);
        assert_eq!(world.masters(), [0]);
    });
}

#[test]
fn a_host_that_was_frozen_for_long_leaves_the_master_alone_that_is_there_when_it_thaws() {
    for_seeds(200, |seed| {
        let mut world = settled_pair(seed);
        let transitions = world.transitions;
        world.nodes[1].frozen = true;
        let long = world.random.duration(20 * INTERVAL);
        // Its timer was due, and is so late that it knows.
        world.run_for(slowest(5 * INTERVAL) + long);
        world.nodes[1].frozen = false;
        world.run_for(SETTLE);
        assert_eq!((world.masters().as_slice(), world.transitions), ([0].as_slice(), transitions));
    });
}

#[test]
fn a_lost_first_word_of_a_master_that_stops_leaves_no_moment_in_which_nobody_serves() {
    for_seeds(200, |seed| {
        let mut world = settled_pair(seed);
        world.must_serve = true;
        for way in world.ways() {
            world.links.insert(way, Link::Cut);
        }
        world.event(0, Event::Stop);
        world.links.clear();
        world.run_for(SETTLE);
        assert_eq!(world.masters(), [1]);
    });
}
