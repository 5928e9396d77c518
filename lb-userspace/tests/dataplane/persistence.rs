//! Clients that stay with their backend.

use std::time::{Duration, Instant};

use evenkeel::dataplane::clock::Clock;
use evenkeel::desired::Family;
use lb_common::backend::RESOLVED;
use lb_common::service::{Method, Scheduler};

use crate::packet::{SYN, Transport};
use crate::world::{TRANSPORTS, World, all, client};

/// By turns, so that nothing but persistence keeps a client where it is.
fn persistent(family: Family, method: Method, prefix: u8) -> World {
    let mut world = World::new(family, method, 4);
    world.service(|record| {
        record.scheduler = Scheduler::Turn as u8;
        record.persistence = 1_000_000;
        record.persistence_prefix = prefix;
    });
    world
}

fn goes(world: &mut World, port: u16, network: u8, host: u8) -> u32 {
    let source = client(world.family, network, host);
    let packet = world.tcp().port(port).from(source).flags(SYN);
    world.send(&packet).to()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_client_stays_and_its_neighbours_do_not() {
    for (family, method) in all() {
        let mut world = persistent(family, method, 128);
        let first = goes(&mut world, 1000, 2, 1);
        assert_ne!(goes(&mut world, 1000, 2, 2), first, "{family:?} {method:?}");
        for port in 1001..1020 {
            for transport in [Transport::Tcp(SYN), TRANSPORTS[0], TRANSPORTS[1]] {
                let packet = world.request(transport).port(port).from(client(family, 2, 1));
                assert_eq!(world.send(&packet).to(), first, "{family:?} {method:?}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn clients_of_one_prefix_stay_together() {
    for (family, method) in all() {
        let mut world = persistent(family, method, if family == Family::V4 { 96 + 24 } else { 64 });
        let first = goes(&mut world, 1000, 2, 1);
        for host in 2..20 {
            assert_eq!(goes(&mut world, 1000, 2, host), first, "{family:?} {method:?}");
        }
        assert_ne!(goes(&mut world, 1000, 3, 1), first, "another prefix");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_client_that_stayed_away_for_the_timeout_is_scheduled_anew() {
    for family in Family::ALL {
        let mut world = persistent(family, Method::Direct, 128);
        let clock = Clock::measure(&mut world.node.plane).unwrap();
        let first = goes(&mut world, 1000, 2, 1);
        world.service(|record| record.persistence = clock.ticks(Duration::from_millis(20)));
        let until = Instant::now() + Duration::from_secs(60);
        for port in 1001.. {
            std::thread::sleep(Duration::from_millis(50));
            if goes(&mut world, port, 2, 1) != first {
                break;
            }
            assert!(Instant::now() < until, "it stays for ever");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_client_leaves_a_backend_that_is_down_or_takes_no_new_flows() {
    for (family, method) in all() {
        for (flags, weight) in [(RESOLVED, 1), (lb_common::backend::SERVING | RESOLVED, 0)] {
            let mut world = persistent(family, method, 128);
            let first = goes(&mut world, 1000, 2, 1);
            world.backend(first, |record| (record.flags, record.weight) = (flags, weight));
            let rest: Vec<u32> = (0..4).filter(|number| *number != first).collect();
            world.table(&rest);
            let second = goes(&mut world, 1001, 2, 1);
            assert_ne!(second, first, "{family:?} {method:?}");
            world.backend(first, |record| {
                (record.flags, record.weight) = (lb_common::backend::SERVING | RESOLVED, 1);
            });
            for port in 1002..1010 {
                assert_eq!(goes(&mut world, port, 2, 1), second, "it stays with the new one");
            }
        }
    }
}
