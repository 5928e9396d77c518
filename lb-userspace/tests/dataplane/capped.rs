//! Backends with a limit of flows: full from the high mark until they are below the low one.

use evenkeel::desired::Family;
use lb_common::reason::Reason;
use lb_common::service::{CAPPED, Method, Scheduler};

use crate::packet::{ACK, FIN, SYN};
use crate::world::{World, all};

fn capped(family: Family, method: Method, scheduler: Scheduler, backends: u32) -> World {
    let mut world = World::new(family, method, backends);
    world.service(|record| (record.scheduler, record.flags) = (scheduler as u8, CAPPED));
    world
}

fn active(world: &World, number: u32) -> u32 {
    let load = world.node.plane.loads.get(number).unwrap();
    load.counted.wrapping_add(load.recent)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn overflow_fills_the_first_up_to_its_mark_and_comes_back_below_the_low_one() {
    for (family, method) in all() {
        let mut world = capped(family, method, Scheduler::Overflow, 3);
        world.members(&[0, 1, 2]);
        world.backend(0, |record| (record.high, record.low) = (6, 3));
        world.backend(1, |record| (record.high, record.low) = (2, 2));
        let packets: Vec<_> = (1000..1010).map(|port| world.tcp().port(port)).collect();
        let got: Vec<u32> = packets.iter().map(|packet| world.establish(packet).to()).collect();
        assert_eq!(got, [0, 0, 0, 0, 0, 0, 1, 1, 2, 2], "{family:?} {method:?}");

        // Below the low mark, flow by flow; the ones that come meanwhile go elsewhere.
        for (port, (packet, left)) in (2000..).zip(packets[..4].iter().zip([5, 4, 3, 2])) {
            world.send(&packet.flags(FIN | ACK));
            assert_eq!(active(&world, 0), left);
            let next = world.tcp().port(port).flags(SYN);
            let expected = if left >= 3 { 2 } else { 0 };
            assert_eq!(world.send(&next).to(), expected, "{family:?} {method:?}: {left} left");
        }
        for packet in &packets[4..6] {
            let sent = world.send(packet);
            assert_eq!((sent.reason, sent.to()), (Reason::Flow, 0), "those that are there stay");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_full_backends_flows_go_to_others_and_are_dropped_when_all_are_full() {
    for (family, method) in all() {
        for scheduler in [Scheduler::Flow, Scheduler::Turn, Scheduler::Source] {
            let mut world = capped(family, method, scheduler, 3);
            for number in 0..3 {
                world.backend(number, |record| (record.high, record.low) = (4 + number, 3));
            }
            let mut got = [0; 3];
            for port in 1000..1015 {
                let packet = world.tcp().port(port);
                got[world.establish(&packet).to() as usize] += 1;
            }
            assert_eq!(got, [4, 5, 6], "{family:?} {method:?} {scheduler:?}");
            for packet in [world.tcp().port(2000), world.tcp().port(2001).flags(SYN), world.udp()] {
                assert_eq!(world.send(&packet).reason, Reason::BackendLimit);
            }
            let known = world.tcp().port(1003);
            assert_eq!(world.send(&known).reason, Reason::Flow);
        }
    }
}

/// A count by user space takes the place of what was counted here.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_census_that_finds_fewer_flows_makes_room() {
    for family in Family::ALL {
        let mut world = capped(family, Method::Nat, Scheduler::Flow, 1);
        world.backend(0, |record| (record.high, record.low) = (2, 1));
        for port in [1000, 1001] {
            let packet = world.tcp().port(port).flags(SYN);
            assert_eq!(world.send(&packet).reason, Reason::Opening);
        }
        let packet = world.tcp().port(1002);
        assert_eq!(world.send(&packet).reason, Reason::BackendLimit);
        for found in [2, 1] {
            world.node.plane.loads.settle(0, found);
            assert_eq!(world.send(&packet).reason, Reason::BackendLimit);
        }
        world.node.plane.loads.settle(0, 0);
        assert_eq!(world.send(&packet).reason, Reason::Opening);
    }
}
