//! Which backend a new flow gets.

use std::collections::BTreeMap;

use evenkeel::desired::Family;
use evenkeel::sched::{Candidate, Kind, table};
use lb_common::backend::RESOLVED;
use lb_common::reason::Reason;
use lb_common::service::{Method, Scheduler};

use crate::fixture::TABLE;
use crate::packet::{FIN, SYN};
use crate::world::{TRANSPORTS, World, all, client};

fn with(family: Family, method: Method, scheduler: Scheduler, backends: u32) -> World {
    let mut world = World::new(family, method, backends);
    world.service(|record| record.scheduler = scheduler as u8);
    world
}

/// The table that user space builds.
fn built(world: &mut World, kind: Kind, weights: &[u16]) {
    let candidates: Vec<Candidate> = (0..)
        .zip(weights)
        .map(|(number, weight)| Candidate { identity: format!("{number}"), number, weight: *weight })
        .collect();
    world.node.plane.tables.write(TABLE, &table(kind, &candidates).unwrap()).unwrap();
}

/// Flows by backend, of so many.
fn shares(world: &mut World, flows: u16) -> BTreeMap<u32, u32> {
    let mut shares = BTreeMap::new();
    for port in 1000..1000 + flows {
        let packet = world.tcp().port(port).flags(SYN);
        let sent = world.send(&packet);
        assert_eq!(sent.reason, Reason::Opening);
        *shares.entry(sent.to()).or_default() += 1;
        // A SYN that is sent again is no other flow.
        assert_eq!(world.send(&packet).to(), sent.to());
    }
    shares
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn all_flows_of_a_client_go_to_one_backend_by_source_hash() {
    for (family, method) in all() {
        let mut world = with(family, method, Scheduler::Source, 5);
        let mut used = BTreeMap::<u32, u32>::new();
        for host in 1..60 {
            let mut chosen = None;
            for port in 1000..1008 {
                for transport in TRANSPORTS {
                    let packet = world.request(transport).port(port).from(client(family, 2, host));
                    let number = world.establish(&packet).to();
                    assert_eq!(*chosen.get_or_insert(number), number, "{family:?} {method:?}");
                }
            }
            *used.entry(chosen.unwrap()).or_default() += 1;
        }
        assert_eq!(used.len(), 5, "{used:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn round_robin_gives_every_backend_the_same_number_of_flows() {
    for (family, method) in all() {
        let mut world = with(family, method, Scheduler::Turn, 7);
        built(&mut world, Kind::Turns, &[1; 7]);
        let shares = shares(&mut world, 140);
        assert_eq!(shares, (0..7).map(|number| (number, 20)).collect(), "{family:?} {method:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn weighted_turns_give_each_backend_its_share_and_weight_0_nothing() {
    for family in Family::ALL {
        let mut world = with(family, Method::Direct, Scheduler::Turn, 4);
        built(&mut world, Kind::WeightedTurns, &[1, 2, 0, 5]);
        let shares = shares(&mut world, 800);
        assert_eq!(shares.keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
        for (number, expected) in [(0, 100), (1, 200), (3, 500)] {
            assert!(shares[&number].abs_diff(expected) <= 3, "{shares:?}");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn random_choices_follow_the_weights() {
    for family in Family::ALL {
        let mut world = with(family, Method::Tunnel, Scheduler::Random, 3);
        built(&mut world, Kind::WeightedTurns, &[1, 3, 0]);
        let shares = shares(&mut world, 2000);
        assert_eq!(shares.len(), 2);
        // Eight standard deviations of 19 flows.
        assert!(shares[&0].abs_diff(500) < 155, "{shares:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_least_loaded_of_few_for_its_weight_gets_the_next_flow() {
    for (family, method) in all() {
        let mut world = with(family, method, Scheduler::LeastConnections, 4);
        world.members(&[0, 1, 2, 3]);
        world.backend(1, |record| record.weight = 3);
        world.backend(3, |record| record.flags = RESOLVED);
        for (number, active) in [(0, 12), (1, 30), (2, 10), (3, 0)] {
            world.node.plane.loads.settle(number, active);
        }
        let mut loads = [(12_u32, 1_u32), (30, 3), (10, 1)];
        for port in 1000..1060 {
            let best = (0..3).min_by_key(|n| {
                let (active, weight) = loads[*n];
                (active + 1) * 6 / weight
            });
            let best = best.unwrap();
            loads[best].0 += 1;
            let packet = world.tcp().port(port).flags(SYN);
            assert_eq!(world.send(&packet).to(), best as u32, "{family:?} {method:?}: {loads:?}");
        }
        let load = world.node.plane.loads.get(2).unwrap();
        assert_eq!(load.counted + load.recent, loads[2].0, "only new flows are counted");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_that_ends_counts_no_more() {
    for (family, method) in all() {
        let mut world = with(family, method, Scheduler::LeastConnections, 2);
        world.members(&[0, 1]);
        let packet = world.tcp();
        let number = world.establish(&packet).to();
        let active = |world: &World| {
            let load = world.node.plane.loads.get(number).unwrap();
            load.counted.wrapping_add(load.recent)
        };
        assert_eq!(active(&world), 1);
        for _ in 0..2 {
            world.send(&packet.flags(FIN));
            assert_eq!(active(&world), 0, "{family:?} {method:?}");
        }
        let next = world.tcp().port(41_000);
        assert_eq!(world.establish(&next).to(), number);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn of_many_backends_the_most_loaded_gets_next_to_nothing() {
    for family in Family::ALL {
        let mut world = with(family, Method::Direct, Scheduler::LeastConnections, 20);
        built(&mut world, Kind::WeightedTurns, &[1; 20]);
        world.node.plane.loads.settle(7, 10_000);
        let shares = shares(&mut world, 1000);
        // It is chosen only where both of the two are it: one time in 400.
        assert!(shares.get(&7).copied().unwrap_or(0) < 20, "{shares:?}");
        let most = shares.values().max().copied().unwrap();
        let least = shares.iter().filter(|(number, _)| **number != 7).map(|(_, flows)| *flows).min();
        assert!(shares.len() >= 19 && most - least.unwrap() < 30, "{shares:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn failover_goes_on_with_the_next_when_the_first_is_down() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 3);
        built(&mut world, Kind::First, &[1, 1, 1]);
        let packet = world.tcp();
        assert_eq!(world.establish(&packet).to(), 0);
        world.backend(0, |record| record.flags = RESOLVED);
        built(&mut world, Kind::First, &[0, 1, 1]);
        let packet = world.tcp().port(41_000);
        assert_eq!(world.establish(&packet).to(), 1, "{family:?} {method:?}");
        let packet = world.tcp();
        assert_eq!(world.establish(&packet).to(), 1, "the flow of the first goes there too");
        built(&mut world, Kind::First, &[1, 1, 1]);
        world.backend(0, |record| record.flags |= lb_common::backend::SERVING);
        assert_eq!(world.send(&packet).to(), 1, "and stays");
        let packet = world.tcp().port(42_000);
        assert_eq!(world.establish(&packet).to(), 0, "new ones go to the first again");
    }
}
