use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_common::backend::{NextHop, RESOLVED, SERVING};
use lb_common::limits::TABLES;
use lb_common::service::{Method, NO_TABLE, ServiceKey, ServiceValue};
use proptest::prelude::*;

use super::plan::{Actual, Circumstances, Plan, Step, TableCache, check, plan};
use crate::config::model::Protocol;
use crate::desired::{self, Desired, Way, listener};

/// Maps that do what steps say, as the kernel would.
fn carry_out(actual: &mut Actual, steps: &[Step]) {
    for step in steps {
        match step {
            Step::ClearCounters(_) => {}
            Step::FreeBackend { number, service } => {
                let freed = actual.backends.remove(number);
                assert_eq!(freed.map(|backend| backend.service), Some(*service));
            }
            Step::WriteBackend(number, record) => {
                actual.backends.insert(*number, *record);
            }
            Step::WriteTable(number, entries) => {
                actual.tables.insert(*number, entries.clone());
            }
            Step::WriteService(key, value) => {
                actual.services.insert(*key, *value);
            }
            Step::RemoveService(key) => {
                actual.services.remove(key);
            }
            Step::RemoveTable(number) => {
                actual.tables.remove(number);
            }
        }
    }
}

struct World {
    actual: Actual,
    circumstances: Circumstances,
    cache: TableCache,
}

impl World {
    fn new() -> Self {
        let way = |last: u8| {
            let next_hop = NextHop { destination: [2, 0, 0, 0, 0, last], source: [2; 6], ifindex: 3 };
            let way = Way { next_hop, tags: 0, mtu: 1500, source: IpAddr::from([10, 0, 0, 1]) };
            (IpAddr::from([10, 0, 0, last]), way)
        };
        let circumstances = Circumstances { ways: (0..=255).map(way).collect(), ..Circumstances::default() };
        Self { actual: Actual::default(), circumstances, cache: TableCache::default() }
    }

    fn reconcile(&mut self, desired: &Desired) -> Plan {
        let plan = plan(desired, &self.actual, &self.circumstances, &mut self.cache).unwrap();
        carry_out(&mut self.actual, &plan.steps);
        plan
    }

    fn value(&self, port: u16) -> ServiceValue {
        self.actual.services[&key(port)]
    }
}

fn key(port: u16) -> ServiceKey {
    listener(SocketAddr::from(([203, 0, 113, 10], port)), Protocol::Tcp)
}

fn backend(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 8080))
}

fn service(ports: &[u16], backends: &[(u8, u16, bool)]) -> desired::Service {
    desired::Service {
        keep_table: false,
        method: Method::Nat,
        listeners: ports.iter().map(|port| key(*port)).collect(),
        backends: backends
            .iter()
            .map(|(last, weight, serving)| {
                (backend(*last), desired::Backend { weight: *weight, serving: *serving })
            })
            .collect(),
    }
}

fn one(service: desired::Service) -> Desired {
    Desired { services: BTreeMap::from([("web".to_owned(), service)]) }
}

#[test]
fn a_new_service_gets_backends_before_its_table_and_its_table_before_its_listener() {
    let mut world = World::new();
    let plan = world.reconcile(&one(service(&[80], &[(1, 1, true), (2, 1, true)])));
    let order: Vec<_> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::ClearCounters(_) => "clear",
            Step::WriteBackend(..) => "backend",
            Step::WriteTable(..) => "table",
            Step::WriteService(..) => "service",
            Step::RemoveService(_) | Step::RemoveTable(_) | Step::FreeBackend { .. } => "remove",
        })
        .collect();
    assert_eq!(order, ["clear", "backend", "clear", "backend", "table", "service"]);
    assert!(world.actual.backends.values().all(|backend| backend.flags == SERVING | RESOLVED));
}

#[test]
fn a_backend_that_leaves_keeps_its_number_and_flows_until_it_has_none() {
    let mut world = World::new();
    let before = world.reconcile(&one(service(&[80], &[(1, 1, true), (2, 1, true)])));
    let leaving = before.backends[&("web".to_owned(), backend(1))];
    let pool = one(service(&[80], &[(2, 1, true), (3, 1, true)]));

    let plan = world.reconcile(&pool);
    assert!(plan.draining.contains(&leaving));
    assert_eq!(world.actual.backends[&leaving].flags, SERVING | RESOLVED);
    assert!(!world.actual.tables[&world.value(80).table].contains(&leaving));

    world.circumstances.unused.insert(leaving);
    let plan = world.reconcile(&pool);
    assert!(plan.draining.is_empty());
    assert!(!world.actual.backends.contains_key(&leaving));
}

#[test]
fn the_previous_table_stays_until_the_change_has_settled() {
    let mut world = World::new();
    world.reconcile(&one(service(&[80], &[(1, 1, true), (2, 1, true)])));
    let old = world.value(80).table;
    let pool = one(service(&[80], &[(1, 1, true), (2, 1, true), (3, 1, true)]));

    let plan = world.reconcile(&pool);
    let value = world.value(80);
    assert_eq!(value.previous, old);
    assert!(world.actual.tables.contains_key(&old));

    world.circumstances.settled.insert(plan.services["web"]);
    world.reconcile(&pool);
    assert_eq!(world.value(80), ServiceValue { previous: NO_TABLE, ..value });
    assert!(!world.actual.tables.contains_key(&old));
}

#[test]
fn a_backend_down_serves_no_more_and_comes_back_under_its_number() {
    let mut world = World::new();
    let up = one(service(&[80], &[(1, 1, true), (2, 1, true)]));
    let before = world.reconcile(&up);
    let number = before.backends[&("web".to_owned(), backend(1))];
    world.reconcile(&one(service(&[80], &[(1, 0, false), (2, 1, true)])));
    assert_eq!(world.actual.backends[&number].flags & SERVING, 0);
    assert_eq!(world.reconcile(&up).backends, before.backends);
    assert_eq!(world.actual.backends[&number].flags & SERVING, SERVING);
}

#[test]
fn a_service_that_is_not_known_yet_keeps_the_table_of_an_earlier_daemon_and_others_do_not_wait() {
    let mut world = World::new();
    let whole = service(&[80], &[(1, 1, true), (2, 1, true)]);
    world.reconcile(&one(whole.clone()));
    let before = world.value(80);
    world.cache = TableCache::default();
    let unknown = desired::Service { keep_table: true, ..service(&[80], &[(1, 1, true), (2, 0, true)]) };
    let other = desired::Service { keep_table: true, ..service(&[90], &[(3, 1, true)]) };
    let services = [("web", unknown), ("api", other)].map(|(name, service)| (name.to_owned(), service));
    world.reconcile(&Desired { services: services.into() });
    assert_eq!(world.value(80), before);
    assert_ne!(world.value(90).table, NO_TABLE);
}

#[test]
fn a_table_without_room_beside_the_old_one_takes_its_place() {
    let mut world = World::new();
    world.reconcile(&one(service(&[80], &[(1, 1, true)])));
    let old = world.value(80).table;
    for number in 0..TABLES {
        world.actual.tables.entry(number).or_insert_with(|| [].into());
    }
    let desired = one(service(&[80], &[(1, 1, true), (2, 1, true)]));
    let steps = plan(&desired, &world.actual, &world.circumstances, &mut world.cache).unwrap().steps;
    assert!(steps.iter().any(|step| matches!(step, Step::WriteTable(number, _) if *number == old)));
    carry_out(&mut world.actual, &steps);
    assert_eq!((world.value(80).table, world.value(80).previous), (old, NO_TABLE));
}

#[test]
fn a_pool_without_anybody_has_no_table() {
    let mut world = World::new();
    world.reconcile(&one(service(&[80], &[(1, 0, true)])));
    assert_eq!(world.value(80).table, NO_TABLE);
}

#[test]
fn a_service_renamed_keeps_its_number_and_its_backends_theirs() {
    let mut world = World::new();
    let pool = service(&[80, 443], &[(1, 1, true)]);
    let before = world.reconcile(&one(pool.clone()));
    let renamed = Desired { services: BTreeMap::from([("www".to_owned(), pool)]) };
    let after = world.reconcile(&renamed);
    assert_eq!(before.services["web"], after.services["www"]);
    assert_eq!(after.steps, []);
}

#[test]
fn what_somebody_removed_from_the_maps_is_put_back() {
    let mut world = World::new();
    let pool = one(service(&[80, 443], &[(1, 1, true), (2, 3, true)]));
    world.reconcile(&pool);
    let whole = world.actual.clone();
    world.actual.services.remove(&key(80));
    world.actual.tables.clear();
    world.reconcile(&pool);
    assert_eq!(world.actual.services.len(), whole.services.len());
    assert_eq!(world.actual.tables[&world.value(80).table], whole.tables[&world.value(443).table]);
}

#[test]
fn a_check_before_an_apply_finds_its_numbers_and_builds_no_table() {
    let mut world = World::new();
    let pool = one(service(&[80, 443], &[(1, 1, true), (2, 3, true)]));
    let checked = check(&pool, &world.actual).unwrap();
    assert!(world.cache.is_empty());
    let planned = world.reconcile(&pool);
    assert_eq!((checked.services, checked.backends), (planned.services, planned.backends));
    assert_eq!(check(&pool, &world.actual).unwrap().steps, []);
}

fn pools() -> impl Strategy<Value = Desired> {
    let backends = prop::collection::btree_map(0_u8..6, (0_u16..3, any::<bool>()), 0..5);
    let service_of = |port: u16| {
        backends.clone().prop_map(move |backends| {
            let backends: Vec<_> =
                backends.iter().map(|(last, (weight, up))| (*last, *weight, *up)).collect();
            service(&[port, port + 1], &backends)
        })
    };
    (prop::option::of(service_of(80)), prop::option::of(service_of(90))).prop_map(|(web, api)| {
        let services = [("web", web), ("api", api)];
        let services = services.into_iter().filter_map(|(name, service)| Some((name.to_owned(), service?)));
        Desired { services: services.collect() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_edits_settles_in_one_plan_and_leaves_nothing_behind(
        edits in prop::collection::vec(pools(), 1..6),
    ) {
        let mut world = World::new();
        for desired in &edits {
            let numbers = world.reconcile(desired).backends;
            let again = world.reconcile(desired);
            prop_assert_eq!(&again.steps, &vec![]);
            prop_assert_eq!(&again.backends, &numbers);
            for (key, value) in &world.actual.services {
                let wanted = desired.services.values().find(|s| s.listeners.contains(key));
                let takes_flows = wanted.unwrap().backends.values().any(|b| b.weight > 0);
                prop_assert_eq!(value.table != NO_TABLE, takes_flows);
                for table in [value.table, value.previous] {
                    prop_assert!(table == NO_TABLE || world.actual.tables.contains_key(&table));
                }
            }
        }
        world.circumstances.unused = world.actual.backends.keys().copied().collect();
        world.reconcile(&Desired::default());
        prop_assert_eq!(world.actual, Actual::default());
    }
}
