mod placed;
mod records;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_common::addr::Addr;
use lb_common::backend::{NextHop, RESOLVED, SERVING};
use lb_common::limits::TABLES;
use lb_common::service::{self, Method, NO_TABLE};
use proptest::prelude::*;

use super::plan::{Actual, Circumstances, Plan, Step, TableCache, check, plan};
use crate::config::model::Ports;
use crate::desired::{self, Desired, Family, Key, Listen, Listener, Way, identity};
use crate::sched::Kind;

/// Maps that do what steps say, as the kernel would. What a step refers to has to be there.
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
                assert!(entries.iter().all(|backend| actual.backends.contains_key(backend)));
                actual.tables.insert(*number, entries.clone());
            }
            Step::WriteMembers(number, members) => {
                actual.members.insert(*number, *members);
            }
            Step::WritePool(number, pool) => {
                actual.pools.insert(*number, *pool);
            }
            Step::WriteSource(service, prefix, word) => {
                actual.sources.insert((*service, *prefix), *word);
            }
            Step::WriteServerId(id, backend) => {
                assert!(actual.backends.contains_key(backend));
                actual.quic.insert(*id, *backend);
            }
            Step::WriteService(number, record) => {
                assert!(record.table == NO_TABLE || actual.tables.contains_key(&record.table));
                actual.services.insert(*number, *record);
            }
            Step::WriteRanges(number, ranges) => {
                actual.ranges.insert(*number, *ranges);
            }
            Step::WriteListener(key, number) => {
                let there = if key.port == 0 { actual.ranges.contains_key(number) } else { true };
                assert!(there && (key.port == 0 || actual.services.contains_key(number)));
                actual.listeners.insert(*key, *number);
            }
            Step::WriteAddress(address) => {
                actual.addresses.insert(*address);
            }
            Step::RemoveAddress(address) => {
                actual.addresses.remove(address);
            }
            Step::RemoveListener(key) => {
                actual.listeners.remove(key);
            }
            Step::RemoveService(number) => {
                assert!(!actual.listeners.iter().any(|(key, n)| key.port != 0 && n == number));
                actual.services.remove(number);
            }
            Step::RemoveServerId(id) => {
                actual.quic.remove(id);
            }
            Step::RemoveSource(service, prefix) => {
                actual.sources.remove(&(*service, *prefix));
            }
            Step::RemovePool(number) => {
                actual.pools.remove(number);
            }
            Step::RemoveMembers(number) => {
                actual.members.remove(number);
            }
            Step::RemoveRanges(number) => {
                actual.ranges.remove(number);
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
            let next_hop =
                NextHop { destination: [2, 0, 0, 0, 0, last], source: [2; 6], ifindex: 3, tags: 0 };
            let way = Way { next_hop, mtu: 1500, source: IpAddr::from([10, 0, 0, 1]) };
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

    fn number(&self, port: u16) -> u32 {
        self.actual.listeners[&listener(port)]
    }

    fn record(&self, port: u16) -> service::Service {
        self.actual.services[&self.number(port)]
    }
}

fn address() -> Addr {
    Addr::from(IpAddr::from([203, 0, 113, 10]))
}

fn listener(port: u16) -> Listener {
    Listener { address: address(), protocol: 6, port }
}

fn listen(ports: Ports) -> Listen {
    Listen { address: address(), protocol: 6, ports }
}

fn backend(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 8080))
}

fn key(name: &str) -> Key {
    Key { name: name.to_owned(), family: Family::V4 }
}

fn member(last: u8, weight: u16, serving: bool) -> desired::Backend {
    let address = backend(last);
    let identity = identity("web", Family::V4, 6, address);
    desired::Backend { address, weight, unknown: false, serving, identity, high: 0, low: 0, outer: None }
}

fn service(ports: &[u16], backends: &[(u8, u16, bool)]) -> desired::Service {
    desired::Service {
        listens: ports.iter().map(|port| listen(Ports::one(*port))).collect(),
        record: service::Service {
            table: NO_TABLE,
            previous: NO_TABLE,
            method: Method::Nat as u8,
            ..service::Service::default()
        },
        kind: Kind::Consistent,
        members: 0,
        always_moved: false,
        pool: None,
        sources: BTreeMap::new(),
        quic: BTreeMap::new(),
        drain: None,
        backends: backends.iter().map(|(last, weight, serving)| member(*last, *weight, *serving)).collect(),
    }
}

fn one(service: desired::Service) -> Desired {
    Desired { services: BTreeMap::from([(key("web"), service)]) }
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
            Step::WriteListener(..) => "listener",
            Step::WriteAddress(_) => "address",
            _ => "other",
        })
        .collect();
    assert_eq!(order, ["clear", "backend", "clear", "backend", "table", "service", "listener", "address"]);
    assert!(world.actual.backends.values().all(|backend| backend.flags == SERVING | RESOLVED));
}

#[test]
fn a_backend_that_leaves_keeps_its_number_and_flows_until_it_has_none() {
    let mut world = World::new();
    let before = world.reconcile(&one(service(&[80], &[(1, 1, true), (2, 1, true)])));
    let leaving = before.backends[&(key("web"), backend(1))];
    let pool = one(service(&[80], &[(2, 1, true), (3, 1, true)]));

    let plan = world.reconcile(&pool);
    assert!(plan.draining.contains(&leaving));
    assert_eq!(world.actual.backends[&leaving].flags, SERVING | RESOLVED);
    assert!(!world.actual.tables[&world.record(80).table].contains(&leaving));

    world.circumstances.unused.insert(leaving);
    let plan = world.reconcile(&pool);
    assert!(plan.draining.is_empty());
    assert!(!world.actual.backends.contains_key(&leaving));
}

#[test]
fn the_previous_table_stays_until_the_change_has_settled() {
    let mut world = World::new();
    world.reconcile(&one(service(&[80], &[(1, 1, true), (2, 1, true)])));
    let old = world.record(80).table;
    let pool = one(service(&[80], &[(1, 1, true), (2, 1, true), (3, 1, true)]));

    let plan = world.reconcile(&pool);
    let value = world.record(80);
    assert_eq!(value.previous, old);
    assert!(world.actual.tables.contains_key(&old));

    world.circumstances.settled.insert(plan.services[&key("web")]);
    world.reconcile(&pool);
    assert_eq!(world.record(80), service::Service { previous: NO_TABLE, ..value });
    assert!(!world.actual.tables.contains_key(&old));
}

#[test]
fn a_backend_down_serves_no_more_and_comes_back_under_its_number() {
    let mut world = World::new();
    let up = one(service(&[80], &[(1, 1, true), (2, 1, true)]));
    let before = world.reconcile(&up);
    let number = before.backends[&(key("web"), backend(1))];
    world.reconcile(&one(service(&[80], &[(1, 0, false), (2, 1, true)])));
    assert_eq!(world.actual.backends[&number].flags & SERVING, 0);
    assert_eq!(world.reconcile(&up).backends, before.backends);
    assert_eq!(world.actual.backends[&number].flags & SERVING, SERVING);
}

/// A backend of weight 1 that is found up, found down, or not heard of yet, by its number.
fn heard(backends: &[(u8, Option<bool>)]) -> Desired {
    let mut pool = service(&[80], &[]);
    pool.backends = backends
        .iter()
        .map(|(last, up)| desired::Backend {
            unknown: up.is_none(),
            ..member(*last, u16::from(*up != Some(false)), *up != Some(false))
        })
        .collect();
    one(pool)
}

#[test]
fn backends_of_which_nothing_is_known_have_the_share_that_they_had() {
    let mut world = World::new();
    world.reconcile(&heard(&[(1, Some(true)), (2, Some(true)), (3, Some(false))]));
    let before = world.record(80);
    // The next daemon.
    world.cache = TableCache::default();
    for pool in [[(1, None), (2, None), (3, None)], [(1, Some(true)), (2, None), (3, None)]] {
        let plan = world.reconcile(&heard(&pool));
        assert!(plan.turned.is_empty());
        assert_eq!(world.record(80), before);
    }
    let plan = world.reconcile(&heard(&[(1, Some(false)), (2, None), (3, None)]));
    assert_eq!(takers(&world, &plan), [2], "what is found down leaves at once, whatever else is unknown");
    let plan = world.reconcile(&heard(&[(1, Some(false)), (2, None), (3, Some(true)), (4, None)]));
    assert_eq!(takers(&world, &plan), [2, 3], "what is new gets nothing before it was checked");
}

#[test]
fn backends_of_a_new_service_get_new_flows_as_they_are_found_up() {
    let mut world = World::new();
    for (pool, expected) in [
        ([(1, None), (2, None), (3, None)], vec![]),
        ([(1, Some(true)), (2, None), (3, None)], vec![1]),
        ([(1, Some(true)), (2, Some(true)), (3, None)], vec![1, 2]),
        ([(1, Some(true)), (2, None), (3, None)], vec![1, 2]),
    ] {
        let plan = world.reconcile(&heard(&pool));
        assert_eq!(takers(&world, &plan), expected, "{pool:?}");
    }
}

/// Backends that the table of the service names.
fn takers(world: &World, plan: &Plan) -> Vec<u8> {
    let Some(table) = world.actual.tables.get(&world.record(80).table) else {
        return Vec::new();
    };
    let named = |last: &u8| {
        let number = plan.backends.get(&(key("web"), backend(*last)));
        number.is_some_and(|number| table.contains(number))
    };
    (1..9).filter(named).collect()
}

#[test]
fn a_table_without_room_beside_the_old_one_takes_its_place() {
    let mut world = World::new();
    world.reconcile(&one(service(&[80], &[(1, 1, true)])));
    let old = world.record(80).table;
    for number in 0..TABLES {
        world.actual.tables.entry(number).or_insert_with(|| [].into());
    }
    let desired = one(service(&[80], &[(1, 1, true), (2, 1, true)]));
    let steps = plan(&desired, &world.actual, &world.circumstances, &mut world.cache).unwrap().steps;
    assert!(steps.iter().any(|step| matches!(step, Step::WriteTable(number, _) if *number == old)));
    carry_out(&mut world.actual, &steps);
    assert_eq!((world.record(80).table, world.record(80).previous), (old, NO_TABLE));
}

#[test]
fn a_pool_without_anybody_has_no_table() {
    let mut world = World::new();
    world.reconcile(&one(service(&[80], &[(1, 0, true)])));
    assert_eq!(world.record(80).table, NO_TABLE);
}

#[test]
fn a_service_renamed_keeps_its_number_and_its_backends_theirs() {
    let mut world = World::new();
    let pool = service(&[80, 443], &[(1, 1, true)]);
    let before = world.reconcile(&one(pool.clone()));
    let renamed = Desired { services: BTreeMap::from([(key("www"), pool)]) };
    let after = world.reconcile(&renamed);
    assert_eq!(before.services[&key("web")], after.services[&key("www")]);
    assert_eq!(after.steps, []);
}

#[test]
fn what_somebody_removed_from_the_maps_is_put_back() {
    let mut world = World::new();
    let pool = one(service(&[80, 443], &[(1, 1, true), (2, 3, true)]));
    world.reconcile(&pool);
    let whole = world.actual.clone();
    world.actual.listeners.remove(&listener(80));
    world.actual.tables.clear();
    world.reconcile(&pool);
    assert_eq!(world.actual.listeners, whole.listeners);
    assert_eq!(world.actual.tables[&world.record(80).table], whole.tables[&world.record(443).table]);
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
        let services = services.into_iter().filter_map(|(name, service)| Some((key(name), service?)));
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
            for (key, number) in &again.services {
                let takes_flows = desired.services[key].backends.iter().any(|b| b.weight > 0);
                let value = &world.actual.services[number];
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
