//! Who may open flows, and how many.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use evenkeel::dataplane::clock::Clock;
use evenkeel::desired::{Family, SourcePrefix};
use lb_common::addr::Addr;
use lb_common::reason::Reason;
use lb_common::service::{DENY_OTHERS, LISTS, Method, Rate, SOURCE_ALLOWED, SOURCE_DENIED};

use crate::packet::{SYN, Transport};
use crate::world::{self, World, all, client};

fn list(world: &mut World, address: IpAddr, length: u8, word: u32) {
    let (bits, length) = match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), length + 96),
        IpAddr::V6(address) => (address.to_bits(), length),
    };
    let network = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0) & bits;
    let prefix = SourcePrefix { network: Addr::from(std::net::Ipv6Addr::from_bits(network)), length };
    world.node.plane.sources.write(world::SERVICE, &prefix, word).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_longest_prefix_says_who_is_let_in() {
    for (family, method) in all() {
        for others in [0, DENY_OTHERS] {
            let mut world = World::new(family, method, 1);
            world.service(|record| record.flags |= LISTS | others);
            let (all, network, host) = match family {
                Family::V4 => (16, 24, 32),
                Family::V6 => (48, 64, 128),
            };
            list(&mut world, client(family, 0, 0), all, SOURCE_ALLOWED);
            list(&mut world, client(family, 2, 0), network, SOURCE_DENIED);
            list(&mut world, client(family, 2, 7), host, SOURCE_ALLOWED);
            list(&mut world, client(family, 3, 7), host, SOURCE_DENIED);
            let stranger = world::own_address(family, 9);
            let rows = [
                ("by the widest", client(family, 1, 1), true),
                ("denied within it", client(family, 2, 1), false),
                ("allowed within that", client(family, 2, 7), true),
                ("one address denied", client(family, 3, 7), false),
                ("its neighbour", client(family, 3, 8), true),
                ("on no list", stranger, others == 0),
            ];
            for (what, source, allowed) in rows {
                for transport in [Transport::Tcp(SYN), Transport::Tcp(16), Transport::Udp] {
                    let packet = world.request(transport).from(source);
                    let denied = world.send(&packet).reason == Reason::Denied;
                    assert_eq!(!denied, allowed, "{family:?} {method:?} {what}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_lists_of_one_service_say_nothing_about_another() {
    for family in Family::ALL {
        let mut world = World::new(family, Method::Direct, 1);
        list(&mut world, client(family, 2, 1), if family == Family::V4 { 32 } else { 128 }, SOURCE_DENIED);
        let packet = world.tcp();
        assert_eq!(world.send(&packet).reason, Reason::Opening, "the service has no lists");
        world.another(9, |record| record.flags |= LISTS);
        world.listen(world::service_address(family, 11), 80, 9);
        let other = packet.to((world::service_address(family, 11), 80).into());
        assert_eq!(world.send(&other).reason, Reason::Opening, "it is another one's list");
        world.service(|record| record.flags |= LISTS);
        assert_eq!(world.send(&packet.port(41_000)).reason, Reason::Denied);
    }
}

/// A hundredth of a flow a jiffy.
const SLOW: Rate = Rate { per_jiffy: 655, burst: 5 };

/// Flows let in of 40 that come at once; the bucket was full. What comes in meanwhile is counted in.
fn burst(world: &mut World, source: IpAddr, limit: Reason) -> u32 {
    let clock = Clock::measure(&mut world.node.plane).unwrap();
    let began = Instant::now();
    let mut passed = 0;
    for port in 1000..1040 {
        let packet = world.tcp().port(port).from(source).flags(SYN);
        match world.send(&packet).reason {
            Reason::Opening => passed += 1,
            reason => assert_eq!(reason, limit),
        }
    }
    let more = clock.ticks(began.elapsed()) * SLOW.per_jiffy / 65_536 + 1;
    assert!(passed <= SLOW.burst + more, "{passed}, {more} of them refilled");
    passed
}

/// The bucket refills: one more flow gets in, in the end.
fn refilled(world: &mut World, source: IpAddr) {
    let until = Instant::now() + Duration::from_secs(60);
    for port in 2000.. {
        let packet = world.tcp().port(port).from(source).flags(SYN);
        if world.send(&packet).reason == Reason::Opening {
            return;
        }
        assert!(Instant::now() < until, "nothing came back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_service_takes_so_many_new_flows_and_more_with_time() {
    for family in Family::ALL {
        for method in [Method::Nat, Method::Tunnel] {
            let mut world = World::new(family, method, 1);
            let known = world.tcp();
            world.establish(&known);
            world.service(|record| record.rate = SLOW);
            let source = client(family, 2, 1);
            assert!(burst(&mut world, source, Reason::ServiceLimit) >= SLOW.burst);
            let sent = world.tcp().port(3000).from(client(family, 9, 9));
            assert_eq!(world.send(&sent).reason, Reason::ServiceLimit, "whoever it is");
            assert_eq!(world.send(&known).reason, Reason::Flow, "what is there goes on");
            refilled(&mut world, source);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_source_may_open_so_many_flows_and_more_with_time() {
    for family in Family::ALL {
        for method in [Method::FullNat, Method::Direct] {
            let mut world = World::new(family, method, 1);
            world.service(|record| record.source_rate = SLOW);
            let greedy = client(family, 2, 1);
            assert!(burst(&mut world, greedy, Reason::SourceLimit) >= SLOW.burst);
            let other = world.tcp().port(3000).from(client(family, 3, 1)).flags(SYN);
            assert_eq!(world.send(&other).reason, Reason::Opening, "another source");
            let neighbour = world.tcp().port(3001).from(client(family, 2, 2)).flags(SYN);
            // One host may have a whole /64 of IPv6.
            let expected = if family == Family::V4 { Reason::Opening } else { Reason::SourceLimit };
            assert_eq!(world.send(&neighbour).reason, expected);
            refilled(&mut world, greedy);
        }
    }
}

/// The second packet of a flow that was let in is none of another flow.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_that_was_let_in_takes_one_token() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 1);
        world.service(|record| record.source_rate = Rate { per_jiffy: 1, burst: 4 });
        for port in [1000, 1001] {
            for packet in [world.tcp().port(port), world.udp().port(port)] {
                world.establish(&packet);
            }
        }
        let packet = world.tcp().port(1002);
        assert_eq!(world.send(&packet).reason, Reason::SourceLimit, "{family:?} {method:?}");
    }
}
