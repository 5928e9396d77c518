use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::service::{
    CAPPED, DENY_OTHERS, LISTS, MOVED, Method, NO_TABLE, PER_PACKET, RESET, SOURCE_ALLOWED, SOURCE_DENIED,
    Scheduler,
};

use super::*;
use crate::config::{Host, parse};
use crate::sched::Kind;

fn config(keys: &str) -> Config {
    let host = Host { hostname: "lb".into(), interfaces: ["eth0".to_owned()].into() };
    let forward = if keys.contains("forward:") { "" } else { "    forward: nat\n" };
    let text = format!("interfaces: [eth0]\nservices:\n  - name: web\n{forward}{keys}");
    parse(&text, "a.yaml", &host).unwrap()
}

struct World {
    config: Config,
    health: State,
    standing: Standing,
    reach: Reach,
    looking: bool,
    hz: u32,
}

impl World {
    fn new(keys: &str) -> Self {
        let (config, reach) = (config(keys), Reach::Open);
        Self { config, health: State::Up, standing: Standing::Active, reach, looking: false, hz: 250 }
    }

    fn desired(&self) -> Desired {
        let known = Known {
            hz: self.hz,
            health: &|_, _| self.health,
            standing: &|_, _| self.standing,
            reach: &|_| self.reach,
            looking: self.looking,
        };
        desired(&self.config, &known)
    }

    fn of(&self, family: Family) -> Service {
        self.desired().services.remove(&Key { name: "web".to_owned(), family }).unwrap()
    }

    fn v4(&self) -> Service {
        self.of(Family::V4)
    }
}

const BOTH: &str = r#"    listen: [203.0.113.10:80, "[2001:db8::10]:80"]
    backends: [10.0.0.11:80, "[fd00::11]:80", "[fd00::12]:80"]
"#;

const PLAIN: &str = "    listen: 203.0.113.10:80\n    backends: [10.0.0.11:8080, 10.0.0.12:8080]\n";

fn with(keys: &str) -> World {
    World::new(&format!("{PLAIN}{keys}"))
}

#[test]
fn a_service_is_one_for_each_family_it_listens_on_with_the_backends_of_that_family() {
    let world = World::new(BOTH);
    let (v4, v6) = (world.of(Family::V4), world.of(Family::V6));
    let ips = |service: &Service| service.backends.iter().map(|b| b.address.ip()).collect::<Vec<_>>();
    assert_eq!(ips(&v4), ["10.0.0.11".parse::<IpAddr>().unwrap()]);
    assert_eq!(ips(&v6), ["fd00::11", "fd00::12"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert!(v4.listens.iter().all(|listen| listen.address.is_v4() && listen.protocol == 6));
    assert!(v6.listens.iter().all(|listen| !listen.address.is_v4()));
    assert_eq!(world.desired().services.len(), 2);
    assert_eq!(with("").desired().services.len(), 1);
}

#[test]
fn a_tunnel_takes_clients_of_either_family_to_every_backend() {
    let world = World::new(&format!("{BOTH}    forward: tunnel\n"));
    for family in Family::ALL {
        assert_eq!(world.of(family).backends.len(), 3, "{family:?}");
    }
}

#[test]
fn a_backend_is_known_by_one_name_in_a_service_and_family_and_by_another_elsewhere() {
    let backend: SocketAddr = "10.0.0.11:80".parse().unwrap();
    let other: SocketAddr = "10.0.0.11:81".parse().unwrap();
    assert_eq!(identity("web", Family::V4, 6, backend), 0x6c3f_a330);
    let names = [
        identity("web", Family::V4, 6, backend),
        identity("wes", Family::V4, 6, backend),
        identity("web", Family::V6, 6, backend),
        identity("web", Family::V4, 17, backend),
        identity("web", Family::V4, 6, other),
    ];
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn health_and_the_operator_decide_together() {
    let mut world = with("");
    for (health, standing, weight, serving) in [
        (State::Up, Standing::Active, 1, true),
        // If it took any before.
        (State::Checking, Standing::Active, 1, true),
        (State::Down, Standing::Active, 0, false),
        (State::Up, Standing::Draining, 0, true),
        (State::Down, Standing::Draining, 0, false),
        (State::Up, Standing::Out, 0, false),
    ] {
        (world.health, world.standing) = (health, standing);
        let backend = &world.v4().backends[0];
        assert_eq!((backend.weight, backend.serving), (weight, serving), "{health:?} {standing:?}");
    }
}

#[test]
fn without_a_way_a_backend_takes_no_new_flow_and_keeps_those_it_has() {
    for (keys, reach, weight) in [
        ("", Reach::Open, 1),
        ("", Reach::Unknown, 0),
        ("", Reach::Lost, 0),
        ("", Reach::Silent, 0),
        ("    check: tcp\n", Reach::Lost, 0),
        ("    check: tcp\n", Reach::Unknown, 0),
        // What the check says of it is newer.
        ("    check: tcp\n", Reach::Silent, 1),
    ] {
        let mut world = with(keys);
        world.reach = reach;
        let backend = &world.v4().backends[0];
        assert_eq!((backend.weight, backend.serving), (weight, true), "{keys:?} {reach:?}");
    }
}

#[test]
fn whether_a_backend_takes_new_flows_is_unknown_until_it_was_checked_and_while_its_way_is_looked_for() {
    let share = |world: &World| {
        let backend = &world.v4().backends[0];
        (backend.weight, backend.unknown)
    };
    let mut world = with("    check: tcp\n");
    for (looking, health, reach, expected) in [
        (false, State::Up, Reach::Open, (1, false)),
        (false, State::Checking, Reach::Open, (1, true)),
        (false, State::Checking, Reach::Unknown, (1, true)),
        (false, State::Checking, Reach::Silent, (1, true)),
        (true, State::Checking, Reach::Lost, (0, false)),
        (true, State::Up, Reach::Unknown, (1, true)),
        (false, State::Up, Reach::Unknown, (0, false)),
        (true, State::Up, Reach::Lost, (0, false)),
        (true, State::Down, Reach::Unknown, (0, false)),
    ] {
        (world.looking, world.health, world.reach) = (looking, health, reach);
        assert_eq!(share(&world), expected, "{looking} {health:?} {reach:?}");
    }
    for standing in [Standing::Draining, Standing::Out] {
        (world.health, world.reach, world.standing) = (State::Checking, Reach::Open, standing);
        assert_eq!(share(&world), (0, false), "{standing:?}");
    }
}

#[test]
fn each_scheduler_has_its_table_and_its_way_to_pick_from_it() {
    for (word, scheduler, kind, members, moved) in [
        ("maglev", Scheduler::Flow, Kind::Consistent, 0, false),
        ("source-hash", Scheduler::Source, Kind::Consistent, 0, false),
        ("round-robin", Scheduler::Turn, Kind::Turns, 0, true),
        ("weighted", Scheduler::Turn, Kind::WeightedTurns, 0, true),
        ("least-conn", Scheduler::LeastConnections, Kind::WeightedTurns, 16, true),
        ("failover", Scheduler::Flow, Kind::First, 0, false),
        ("random", Scheduler::Random, Kind::WeightedTurns, 0, true),
    ] {
        let service = with(&format!("    scheduler: {word}\n")).v4();
        assert_eq!(service.record.scheduler, scheduler as u8, "{word}");
        let found = (service.kind, service.members, service.always_moved);
        assert_eq!(found, (kind, members, moved), "{word}");
    }
    let overflow = World::new(
        "    listen: 203.0.113.10:80\n    scheduler: overflow\n    backends: [{ address: 10.0.0.11:80, limit: 5 }, 10.0.0.12:80]\n",
    );
    let service = overflow.v4();
    assert_eq!(service.record.scheduler, Scheduler::Overflow as u8);
    assert_eq!((service.kind, service.members, service.always_moved), (Kind::First, 63, true));
    assert_eq!(service.record.flags & CAPPED, CAPPED);
    assert_eq!((service.backends[0].high, service.backends[0].low), (5, 5));
}

#[test]
fn settings_are_flags_and_numbers_of_the_record() {
    let record = with("    down: rehash\n    mss: 1400\n").v4().record;
    assert_eq!((record.flags, record.mss), (0, 1400));
    assert_eq!((record.table, record.previous, record.method), (NO_TABLE, NO_TABLE, Method::Nat as u8));
    assert_eq!(with("").v4().record.flags, RESET);
    let spread = with("    protocol: udp\n    scheduler: random\n    per_packet: true\n").v4().record;
    assert_eq!(spread.flags & PER_PACKET, PER_PACKET);
    assert_eq!(record.flags & MOVED, 0, "a plan sets it");
}

#[test]
fn times_and_rates_are_counted_in_jiffies() {
    let keys = "    persistence: { timeout: 5m, ipv4: 24 }\n    limits: { new_flows: 1000, new_flows_per_source: { per_second: 1, burst: 3 } }\n";
    let mut world = with(keys);
    let record = world.v4().record;
    assert_eq!((record.persistence, record.persistence_prefix), (300 * 250, 96 + 24));
    assert_eq!((record.rate.per_jiffy, record.rate.burst), (4 << 16, 1000));
    assert_eq!((record.source_rate.per_jiffy, record.source_rate.burst), (262, 3));
    assert_eq!(record.half_open, 60 * 250);
    assert!(world.v4().always_moved);
    world.hz = 1000;
    assert_eq!(world.v4().record.rate.per_jiffy, 1 << 16);
    world.config.flows.timeouts.syn_recv = Duration::from_millis(1_001);
    world.hz = 100;
    assert_eq!(world.v4().record.half_open, 101);
}

#[test]
fn lists_name_prefixes_of_each_family_and_with_an_allow_list_all_others_are_denied() {
    let lists =
        format!("{BOTH}    allow: [198.51.100.0/24]\n    deny: [198.51.100.7, \"2001:db8:bad::/48\"]\n");
    let world = World::new(&lists);
    let (v4, v6) = (world.of(Family::V4), world.of(Family::V6));
    for service in [&v4, &v6] {
        assert_eq!(service.record.flags & (LISTS | DENY_OTHERS), LISTS | DENY_OTHERS);
    }
    let prefix = |address: &str, length| SourcePrefix {
        network: Addr::from(address.parse::<IpAddr>().unwrap()),
        length,
    };
    let expected =
        [(prefix("198.51.100.0", 120), SOURCE_ALLOWED), (prefix("198.51.100.7", 128), SOURCE_DENIED)];
    assert_eq!(v4.sources, expected.into());
    assert_eq!(v6.sources, [(prefix("2001:db8:bad::", 48), SOURCE_DENIED)].into());
    let denying = with("    deny: [198.51.100.7]\n").v4();
    assert_eq!(denying.record.flags & (LISTS | DENY_OTHERS), LISTS);
    assert_eq!(with("").v4().record.flags & (LISTS | DENY_OTHERS), 0);
}

#[test]
fn full_nat_has_its_sources_by_family_in_the_order_written() {
    let keys = "    forward: { fullnat: { sources: [10.0.0.6, 10.0.0.5, \"fd00::5\"], ports: 2000-2999 } }\n";
    let world = World::new(&format!("{BOTH}{keys}"));
    let pool = world.of(Family::V4).pool.unwrap();
    assert_eq!((pool.count, pool.first_port, pool.ports), (2, 2000, 1000));
    let written = ["10.0.0.6", "10.0.0.5"].map(|ip| Addr::from(ip.parse::<IpAddr>().unwrap()));
    assert_eq!(pool.addresses[..2], written);
    assert_eq!(world.of(Family::V6).pool.unwrap().count, 1);
    assert_eq!(with("").v4().pool, None);
}

#[test]
fn a_tunnel_says_how_it_wraps_and_which_of_its_source_varies() {
    let keys = "    forward: { tunnel: { encapsulation: gue, port: 6081, sources: [10.255.0.0/16, \"fd00:ff::/64\"] } }\n";
    let world = World::new(&format!("{BOTH}{keys}"));
    let backends = world.of(Family::V6).backends;
    let outer = backends[0].outer.unwrap();
    assert_eq!((outer.encapsulation, outer.gue_port), (backend::Encapsulation::Gue, 6081));
    assert_eq!(outer.source, Some(("10.255.0.0".parse().unwrap(), 16)), "by the family of the backend");
    let source = backends[1].outer.unwrap().source;
    assert_eq!(source, Some(("fd00:ff::".parse().unwrap(), 32)), "no more than a hash has");
    let plain = World::new(&format!("{BOTH}    forward: tunnel\n")).v4();
    let outer = Outer { encapsulation: backend::Encapsulation::Ip, gue_port: 0, source: None };
    assert_eq!(plain.backends[0].outer, Some(outer));
    assert_eq!(with("").v4().backends[0].outer, None);
}

#[test]
fn server_ids_of_quic_are_filled_up_with_zeros() {
    let world = World::new(
        "    listen: 203.0.113.10:443\n    protocol: udp\n    quic: { id_length: 2 }\n    backends: [{ address: 10.0.0.11:443, quic_id: \"0a0b\" }, { address: 10.0.0.12:443, quic_id: \"0a0c\" }]\n",
    );
    let service = world.v4();
    assert_eq!(service.record.quic_length, 2);
    let first: SocketAddr = "10.0.0.11:443".parse().unwrap();
    assert_eq!(service.quic.get(&[0x0a, 0x0b, 0, 0, 0, 0, 0, 0]), Some(&first));
    assert_eq!(service.quic.len(), 2);
    assert!(service.always_moved);
}

#[test]
fn a_backend_without_a_port_keeps_the_one_that_the_client_wrote() {
    let world = World::new("    listen: \"203.0.113.10:*\"\n    backends: [10.0.0.11]\n");
    let service = world.v4();
    assert_eq!(service.backends[0].address.port(), 0);
    assert_eq!(service.listens.iter().next().map(|listen| listen.ports), Some(Ports::ALL));
}
