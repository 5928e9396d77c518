//! What becomes of flows when their backend goes.

use std::time::Duration;

use lb_common::backend::{RESOLVED, SERVING};
use lb_common::reason::Reason;
use lb_common::service::{NO_TABLE, RESET};

use crate::packet::{ACK, SYN};
use crate::world::{TRANSPORTS, World, all, translates};

/// Two backends, and flows at the one that goes.
fn goes_down(mut world: World) -> World {
    world.table(&[0]);
    for transport in TRANSPORTS {
        let packet = world.request(transport);
        world.establish(&packet);
    }
    world.table(&[1]);
    world.backend(0, |record| record.flags = RESOLVED);
    world
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn flows_of_a_backend_that_is_down_go_to_another_whole() {
    for (family, method) in all() {
        let mut world = goes_down(World::new(family, method, 2));
        for transport in TRANSPORTS {
            let packet = world.request(transport);
            let sent = world.establish(&packet);
            assert_eq!(sent.to(), 1, "{family:?} {method:?}");
            if translates(method) {
                let reply = world.reply(&packet, &sent);
                world.expect_reply(&packet, &reply);
            }
        }
        assert_eq!(world.flows().len(), 2 * world.halves(), "nothing is left of what was");
        world.backend(0, |record| record.flags = SERVING | RESOLVED);
        for transport in TRANSPORTS {
            let packet = world.request(transport);
            assert_eq!(world.send(&packet).to(), 1, "they do not go back");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn connections_to_a_backend_that_is_down_end_where_that_is_configured() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 2);
        world.service(|record| record.flags |= RESET);
        let mut world = goes_down(world);
        let packet = world.tcp();
        for _ in 0..2 {
            let ended = world.node.send_bytes(&packet.flags(ACK).bytes()).reason;
            assert_eq!(ended, Reason::Reset, "{family:?} {method:?}");
        }
        let again = world.send(&packet.flags(SYN));
        assert_eq!((again.reason, again.to()), (Reason::Opening, 1), "the client may open another");
        let ack = world.send(&packet);
        assert_eq!((ack.reason, ack.to()), (Reason::NewFlow, 1), "{family:?} {method:?}: it opens");
        let datagram = world.udp();
        assert_eq!(world.send(&datagram).to(), 1, "a datagram has no connection to end");
    }
}

/// A SYN to take its place is a connection of its own.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_client_that_opens_anew_gets_a_backend_that_serves() {
    for (family, method) in all() {
        for reset in [0, RESET] {
            let mut world = World::new(family, method, 2);
            world.service(|record| record.flags |= reset);
            let mut world = goes_down(world);
            let packet = world.tcp();
            let syn = world.send(&packet.flags(SYN));
            assert_eq!((syn.reason, syn.to()), (Reason::Opening, 1), "{family:?} {method:?}");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn flows_stay_with_a_backend_that_drains_and_new_ones_go_elsewhere() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 2);
        world.table(&[0]);
        let known = world.tcp();
        world.establish(&known);
        world.table(&[1]);
        world.backend(0, |record| record.weight = 0);
        let sent = world.send(&known);
        assert_eq!((sent.reason, sent.to()), (Reason::Flow, 0), "{family:?} {method:?}");
        let new = world.tcp().port(41_000);
        assert_eq!(world.establish(&new).to(), 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_another_backend_its_flows_are_dropped_and_forgotten() {
    for (family, method) in all() {
        let mut world = goes_down(World::new(family, method, 2));
        world.service(|record| record.table = NO_TABLE);
        for transport in TRANSPORTS {
            let packet = world.request(transport);
            assert_eq!(world.send(&packet).reason, Reason::NoBackend, "{family:?} {method:?}");
        }
        assert_eq!(world.flows(), []);
    }
}

/// What was remembered while a connection opened is over with it.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_connection_that_opened_elsewhere_is_not_led_back_by_what_it_opened_with() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 2);
        world.table(&[0]);
        let packet = world.tcp();
        assert_eq!(world.send(&packet.flags(SYN)).to(), 0);
        world.table(&[1]);
        world.backend(0, |record| record.flags = RESOLVED);
        let ack = world.send(&packet);
        assert_eq!((ack.reason, ack.to()), (Reason::NewFlow, 1), "{family:?} {method:?}");
        world.backend(0, |record| record.flags = RESOLVED | SERVING);
        world.sweep_after(Duration::from_secs(200_000));
        assert_eq!(world.flows(), []);
        let again = world.send(&packet.flags(SYN));
        assert_eq!((again.reason, again.to()), (Reason::Opening, 1), "{family:?} {method:?}");
    }
}
