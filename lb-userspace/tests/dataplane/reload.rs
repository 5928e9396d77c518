//! What a reload costs, and what it keeps.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use aya::maps::{Array, HashMap, Map, MapData};
use evenkeel::config::model::Ports;
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::{self, Desired, Family, Key, Listen, Way};
use evenkeel::reconcile::apply::{self, KnownTables};
use evenkeel::reconcile::plan::{self, Circumstances, Step, TableCache};
use evenkeel::sched::Kind;
use lb_common::addr::{Addr, Address as _, V4};
use lb_common::backend::NextHop;
use lb_common::counters::BackendCounters;
use lb_common::service::{Listener, ListenerKey4, Method, NO_TABLE, Near, Service, near};

fn pools(services: u16, backends: u16) -> Desired {
    let backend = |last| desired::Backend {
        address: SocketAddr::from(([10, 0, 0, 1], last)),
        weight: 1,
        unknown: false,
        serving: true,
        identity: u32::from(last),
        high: 0,
        low: 0,
        outer: None,
    };
    let address = Addr::from(IpAddr::from([203, 0, 113, 10]));
    let service = |port: u16| desired::Service {
        listens: [Listen { address, protocol: 6, ports: Ports::one(port) }].into(),
        record: Service {
            table: NO_TABLE,
            previous: NO_TABLE,
            method: Method::Nat as u8,
            ..Service::default()
        },
        kind: Kind::Consistent,
        members: 0,
        always_moved: false,
        pool: None,
        sources: BTreeMap::new(),
        quic: BTreeMap::new(),
        drain: None,
        backends: (1..=backends).map(backend).collect(),
    };
    Desired { services: (1..=services).map(|port| (key(port), service(port))).collect() }
}

fn key(port: u16) -> Key {
    Key { name: format!("s{port}"), family: Family::V4 }
}

fn circumstances() -> Circumstances {
    let next_hop = NextHop { destination: [2; 6], source: [2; 6], ifindex: 1, tags: 0 };
    let address = IpAddr::from([10, 0, 0, 1]);
    let way = Way { next_hop, mtu: 1500, source: address };
    Circumstances { ways: BTreeMap::from([(address, way)]), ..Circumstances::default() }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn four_hundred_services_are_applied_in_seconds_and_again_in_no_time() {
    let mut plane = DataPlane::load_private(object::EVENKEEL, Sizes::of(1024, 1024), 1024).unwrap();
    let (mut known, mut cache) = (KnownTables::default(), TableCache::default());
    let (desired, circumstances) = (pools(400, 5), circumstances());
    let mut seconds = Vec::new();
    for _ in 0..2 {
        let started = Instant::now();
        let actual = apply::read(&mut plane, &mut known).unwrap();
        let checked = Instant::now();
        plan::check(&desired, &actual).unwrap();
        let checked = checked.elapsed();
        let planned = Instant::now();
        let steps = plan::plan(&desired, &actual, &circumstances, &mut cache).unwrap().steps;
        let planned = planned.elapsed();
        apply::apply(&mut plane, &mut known, &steps).unwrap();
        let all = started.elapsed();
        println!("{} steps: check {checked:?}, plan {planned:?}, all {all:?}", steps.len());
        seconds.push(all.as_secs_f64());
    }
    // Generous: an unoptimized build on a busy machine.
    assert!(seconds[0] < 60.0 && seconds[1] < 2.0, "{seconds:?}");
}

/// A folder on the bpf file system that goes when the test ends.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_a_backend_that_left_had_counted_outlives_the_daemon_and_is_counted_once() {
    let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/evenkeel-test-{}", std::process::id())));
    let counted =
        BackendCounters { packets: 5, bytes: 500, reply_packets: 3, reply_bytes: 300, new_flows: 1 };
    {
        let mut plane = DataPlane::load(&pins.0, Sizes::of(1024, 1024)).unwrap();
        let (mut known, mut cache) = (KnownTables::default(), TableCache::default());
        let actual = apply::read(&mut plane, &mut known).unwrap();
        let plan = plan::plan(&pools(1, 1), &actual, &circumstances(), &mut cache).unwrap();
        apply::apply(&mut plane, &mut known, &plan.steps).unwrap();
        let service = plan.services[&key(1)];
        plane.retired.add(service, counted).unwrap();

        let actual = apply::read(&mut plane, &mut known).unwrap();
        let unused = actual.backends.keys().copied().collect();
        let circumstances = Circumstances { unused, ..circumstances() };
        let plan = plan::plan(&Desired::default(), &actual, &circumstances, &mut cache).unwrap();
        assert!(plan.steps.iter().any(|step| matches!(step, Step::FreeBackend { .. })));
        apply::apply(&mut plane, &mut known, &plan.steps).unwrap();
        assert_eq!(plane.retired.read().unwrap(), BTreeMap::from([(service, counted)]));
    }
    let mut plane = DataPlane::load(&pins.0, Sizes::of(1024, 1024)).unwrap();
    assert_eq!(plane.retired.read().unwrap().into_values().collect::<Vec<_>>(), [counted]);
    plane.retired.add(0, counted).unwrap();
    assert_eq!(plane.retired.read().unwrap()[&0].packets, 10);
    plane.retired.remove(0).unwrap();
    plane.retired.remove(0).unwrap();
    assert_eq!(plane.retired.read().unwrap(), BTreeMap::new());
}

/// As another program may leave it, or a map that lost its pin.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_in_front_of_the_listen_addresses_agrees_with_the_map_after_a_start() {
    let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/evenkeel-test-near-{}", std::process::id())));
    let address = Addr::from(IpAddr::from([203, 0, 113, 10]));
    let listeners = [80, 443, 8080].map(|port| desired::Listener { address, protocol: 6, port });
    let places = listeners
        .map(|listener| near(V4::from_mapped(listener.address), listener.port.to_be(), listener.protocol));
    let pinned = |name| MapData::from_pin(pins.0.join("v3").join(name)).unwrap();
    let numbers = || {
        let records: Array<_, Near> = Map::Array(pinned("ek_near")).try_into().unwrap();
        places.map(|place| records.get(&place, 0).unwrap().number)
    };
    {
        let mut plane = DataPlane::load(&pins.0, Sizes::of(1024, 1024)).unwrap();
        for (number, listener) in listeners.iter().enumerate() {
            plane.listeners.write(listener, number as u32).unwrap();
        }
        assert_eq!(numbers(), [1, 2, 3]);
    }
    let mut map: HashMap<_, ListenerKey4, Listener> =
        Map::HashMap(pinned("ek_listeners4")).try_into().unwrap();
    let key = |port: u16| ListenerKey4 {
        address: V4::from_mapped(address),
        port: port.to_be(),
        protocol: 6,
        zero: 0,
    };
    map.remove(&key(80)).unwrap();
    map.insert(key(8080), Listener { number: 6 }, 0).unwrap();
    let _plane = DataPlane::load(&pins.0, Sizes::of(1024, 1024)).unwrap();
    assert_eq!(numbers(), [0, 2, 7]);
}
