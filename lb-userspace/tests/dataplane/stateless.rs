//! What leaves state, and what does not.

use std::collections::BTreeMap;

use aya::maps::{MapData, MapType};
use evenkeel::dataplane::object;
use evenkeel::desired::Family;
use lb_common::reason::Reason;
use lb_common::service::{MOVED, Method};

use crate::packet::{RST, SYN};
use crate::world::{World, all, translates};

/// Entries of every hash that the programs use, by name.
fn entries(world: &mut World) -> BTreeMap<String, usize> {
    object::BALANCER
        .into_iter()
        .flat_map(|program| {
            let info = world.node.plane.program_named(program).unwrap().info().unwrap();
            info.map_ids().unwrap().unwrap()
        })
        .filter_map(|id| {
            let map = MapData::from_id(id).unwrap();
            let info = map.info().unwrap();
            let hashes = [MapType::Hash, MapType::LruHash];
            hashes
                .contains(&info.map_type().unwrap())
                .then(|| (info.name_as_str().unwrap().to_owned(), keys(&map, info.key_size() as usize)))
        })
        .collect()
}

/// By the system call, which takes keys of any size (`bpf_attr` in the kernel's include/uapi/linux/bpf.h).
fn keys(map: &MapData, size: usize) -> usize {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    const GET_NEXT_KEY: libc::c_int = 4;
    let (mut key, mut next) = (vec![0_u8; size], vec![0_u8; size]);
    let mut first = true;
    for count in 0.. {
        let from = if first { 0 } else { key.as_ptr() as u64 };
        let attributes = [map.fd().as_fd().as_raw_fd() as u64, from, next.as_mut_ptr() as u64];
        // SAFETY: descriptor and two pointers to keys of the map's size, the first of which may be none.
        let done = unsafe {
            libc::syscall(libc::SYS_bpf, GET_NEXT_KEY, attributes.as_ptr(), size_of_val(&attributes))
        };
        if done != 0 {
            return count;
        }
        (key, first) = (next.clone(), false);
    }
    unreachable!("the kernel ends the loop")
}

/// Entries of the hashes, and halves in the flow tables.
fn state(world: &mut World) -> (BTreeMap<String, usize>, usize) {
    (entries(world), world.flows().len())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_syn_that_the_table_decides_leaves_no_entry_in_any_map() {
    for (family, method) in all().filter(|(_, method)| !translates(*method)) {
        let mut world = World::new(family, method, 3);
        let before = state(&mut world);
        assert!(before.0.contains_key("ek_half_open"), "{before:?}");
        for port in 1000..1500 {
            let packet = world.tcp().port(port).flags(SYN);
            assert_eq!(world.send(&packet).reason, Reason::Opening);
            let packet = world.tcp().port(port).flags(RST);
            assert_eq!(world.send(&packet).reason, Reason::Untracked);
        }
        assert_eq!(state(&mut world), before, "{family:?} {method:?}");
    }
}

/// A flow that its table would have elsewhere is remembered by the flow table alone.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_syn_asks_the_flow_table_where_flows_may_be_elsewhere() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 2);
        world.table(&[0]);
        let packet = world.tcp();
        world.establish(&packet);
        world.table(&[1]);
        world.service(|record| record.flags |= MOVED);
        let syn = world.send(&packet.flags(SYN));
        assert_eq!((syn.reason, syn.to()), (Reason::Flow, 0), "{family:?} {method:?}");
        let sent = world.send(&packet);
        assert_eq!((sent.reason, sent.to()), (Reason::Flow, 0));
    }
}

/// Without that flag its table is asked alone: the flow is where that says.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_syn_to_a_stateless_service_disturbs_no_flow() {
    for (family, method) in all().filter(|(_, method)| !translates(*method)) {
        let mut world = World::new(family, method, 3);
        let packet = world.tcp();
        let number = world.establish(&packet).to();
        for _ in 0..3 {
            let syn = world.send(&packet.flags(SYN));
            assert_eq!((syn.reason, syn.to()), (Reason::Opening, number), "{family:?} {method:?}");
            let sent = world.send(&packet);
            assert_eq!((sent.reason, sent.to()), (Reason::Flow, number));
        }
        assert_eq!(world.flows().len(), 1);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_enters_the_table_with_the_second_packet_of_its_client() {
    for (family, method) in all() {
        let mut world = World::new(family, method, 2);
        for (count, port) in (1000..1050).enumerate() {
            for (packet, more) in [(world.tcp().port(port), 0), (world.udp().port(port), 1)] {
                let known = (2 * count + more) * world.halves();
                let first = world.send(&packet);
                assert_eq!((first.reason, world.flows().len()), (Reason::Opening, known));
                let second = world.send(&packet);
                assert_eq!((second.reason, second.to()), (Reason::NewFlow, first.to()));
                assert_eq!(world.flows().len(), known + world.halves(), "{family:?} {method:?}");
                assert_eq!(world.send(&packet).reason, Reason::Flow);
            }
        }
    }
}

/// The answers of the backend are no second packet: whoever forged the first one causes them.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_a_backend_answers_enters_no_flow_into_the_table() {
    for family in Family::ALL {
        for method in [Method::Nat, Method::FullNat] {
            let mut world = World::new(family, method, 1);
            for packet in [world.tcp().flags(SYN), world.udp()] {
                let sent = world.send(&packet);
                let reply = world.reply(&packet, &sent);
                for _ in 0..5 {
                    world.expect_reply(&packet, &reply);
                }
                assert_eq!(world.flows(), []);
            }
        }
    }
}
