//! Where a service listens.

use std::collections::BTreeMap;
use std::net::IpAddr;

use evenkeel::desired::Family;
use lb_common::addr::{Addr, Address as _, V4};
use lb_common::reason::Reason;
use lb_common::service::{Range, Ranges, near};

use crate::fixture::Action;
use crate::packet::{SYN, Transport};
use crate::world::segment::Segment;
use crate::world::{self, PORT, TRANSPORTS, World, all, service_address};

/// Number of a record of ranges, and of a second service.
const RECORD: u32 = 17;
const SECOND: u32 = 9;

fn ranges(world: &mut World, ranges: &[(u16, u16, u32)]) {
    let mut record = Ranges::default();
    for (place, (first, last, service)) in record.ranges.iter_mut().zip(ranges) {
        *place = Range { first: *first, last: *last, service: *service };
    }
    world.node.plane.ranges.write(RECORD, &record).unwrap();
}

fn reached(world: &mut World, packet: &Segment) -> bool {
    let sent = world.send(packet);
    assert!(
        [Reason::Opening, Reason::NewFlow, Reason::NoService].contains(&sent.reason),
        "{:?}",
        sent.reason
    );
    sent.backend.is_some()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_range_takes_its_ports_from_the_first_to_the_last_and_no_other() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 1);
        let address = service_address(family, 20);
        ranges(
            &mut world,
            &[(1000, 1999, world::SERVICE), (5000, 5000, world::SERVICE), (65_535, 65_535, world::SERVICE)],
        );
        world.listen(address, 0, RECORD);
        for (port, expected) in [
            (0, false),
            (1, false),
            (999, false),
            (1000, true),
            (1500, true),
            (1999, true),
            (2000, false),
            (4999, false),
            (5000, true),
            (5001, false),
            (65_534, false),
            (65_535, true),
        ] {
            for transport in [Transport::Tcp(SYN), TRANSPORTS[0], TRANSPORTS[1]] {
                let destination = (address, port).into();
                // The backend tells flows apart by the client's port alone.
                let packet = Segment { destination, ..world.request(transport).port(port | 1) };
                assert_eq!(reached(&mut world, &packet), expected, "{family:?} {method:?} {port}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_whole_address_takes_every_port() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 1);
        let address = service_address(family, 20);
        ranges(&mut world, &[(1, 65_535, world::SERVICE)]);
        world.listen(address, 0, RECORD);
        for port in [1, 79, 80, 255, 256, 32_768, 65_535] {
            let destination = (address, port).into();
            for transport in [Transport::Tcp(SYN), Transport::Udp] {
                let packet = Segment { destination, ..world.request(transport) };
                assert!(reached(&mut world, &packet), "{family:?} {method:?} {port}");
            }
        }
        let elsewhere = world.tcp().to((service_address(family, 21), 80).into());
        assert!(!reached(&mut world, &elsewhere));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn several_listens_are_one_service_and_each_is_its_own_flow() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 1);
        world.backend(0, |record| record.port = 0);
        let listens = [(10, PORT), (10, 443), (11, 8080)].map(|(n, port)| (service_address(family, n), port));
        for (address, port) in listens {
            world.listen(address, port, world::SERVICE);
        }
        for (address, port) in listens {
            let packet = world.tcp().to((address, port).into());
            let sent = world.establish(&packet);
            if world::translates(method) {
                let reply = world.reply(&packet, &sent);
                world.expect_reply(&packet, &reply);
            }
        }
        assert_eq!(world.flows().len(), listens.len() * world.halves());
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_port_of_its_own_goes_before_a_range_that_it_lies_in() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 2);
        world.numbered_table(70, &[1]);
        world.table(&[0]);
        world.another(SECOND, |record| record.table = 70);
        let address = service_address(family, 20);
        ranges(&mut world, &[(1000, 1999, world::SERVICE)]);
        world.listen(address, 0, RECORD);
        world.listen(address, 1500, SECOND);
        for (port, backend) in [(1499, 0), (1500, 1), (1501, 0)] {
            for transport in TRANSPORTS {
                let destination = (address, port).into();
                // The backends' port is the same: another client port, so that replies are told apart.
                let packet = Segment { destination, ..world.request(transport).port(port) };
                assert_eq!(world.establish(&packet).to(), backend, "{family:?} {method:?} {port}");
            }
        }
    }
}

/// Two ports of an address that have one place in front of the hash map.
fn ports_that_share_a_place(address: IpAddr) -> [u16; 2] {
    let mapped = Addr::from(address);
    let place = |port: u16| match address {
        IpAddr::V4(_) => near(V4::from_mapped(mapped), port.to_be(), 6),
        IpAddr::V6(_) => near(mapped, port.to_be(), 6),
    };
    let mut seen = BTreeMap::new();
    (1..=u16::MAX).find_map(|port| seen.insert(place(port), port).map(|first| [first, port])).unwrap()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_syn_finds_what_listens_now_where_two_share_a_place_too() {
    for (family, method) in all().filter(|(_, method)| !world::translates(*method)) {
        let mut world = World::new(family, method, 2);
        world.numbered_table(70, &[1]);
        world.table(&[0]);
        world.another(SECOND, |record| record.table = 70);
        let address = service_address(family, 20);
        let [first, second] = ports_that_share_a_place(address);
        let reached = |world: &mut World| {
            [first, second].map(|port| {
                let packet = world.tcp().to((address, port).into()).flags(SYN);
                world.send(&packet).backend
            })
        };
        world.listen(address, first, world::SERVICE);
        assert_eq!(reached(&mut world), [Some(0), None], "{family:?}");
        world.listen(address, second, SECOND);
        assert_eq!(reached(&mut world), [Some(0), Some(1)], "{family:?}");
        world.unlisten(address, first);
        assert_eq!(reached(&mut world), [None, Some(1)], "{family:?}");
        world.listen(address, first, SECOND);
        world.unlisten(address, second);
        assert_eq!(reached(&mut world), [Some(1), None], "{family:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_listen_of_one_protocol_is_none_of_the_other() {
    for family in Family::ALL {
        let mut world = World::new(family, lb_common::service::Method::Nat, 1);
        let key = evenkeel::desired::Listener {
            address: service_address(family, 10).into(),
            protocol: 17,
            port: PORT,
        };
        world.node.plane.listeners.remove(&key).unwrap();
        let datagram = world.udp().bytes();
        world.node.rows(&[("no listener", datagram, Action::Pass, Reason::NoService, None)]);
        let packet = world.tcp();
        world.establish(&packet);
    }
}
