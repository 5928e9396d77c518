//! Whether SYNs of a service have to ask the flow table.

use lb_common::addr::{Address as _, V4};
use lb_common::flow::{FlowKey, MappedKey, Ports as FlowPorts};
use lb_common::hash::{flow_hash, source_hash, table_entry};
use lb_common::service::{LISTS, MOVED, Method, Rate, STATELESS, Scheduler};

use super::*;
use crate::reconcile::expected::Expected;

fn moved(world: &World) -> bool {
    world.record(80).flags & MOVED != 0
}

/// As the daemon does once censuses have found no flow elsewhere.
fn place(world: &mut World, plan: &Plan) {
    world.circumstances.placed = plan.services.values().copied().collect();
}

#[test]
fn flows_may_be_elsewhere_from_a_change_of_the_table_until_none_was_found() {
    let mut world = World::new();
    let pool = one(service(&[80], &[(1, 1, true), (2, 1, true)]));
    let plan = world.reconcile(&pool);
    assert!(moved(&world), "nobody has looked yet");
    place(&mut world, &plan);
    assert!(world.reconcile(&pool).turned.is_empty());
    assert!(!moved(&world));

    let plan = world.reconcile(&one(service(&[80], &[(1, 1, true)])));
    assert!(moved(&world), "though the last censuses found none elsewhere");
    assert_eq!(plan.turned, plan.services.values().copied().collect());
}

#[test]
fn another_scheduler_over_the_same_table_and_a_listener_of_another_service_move_flows_too() {
    let mut world = World::new();
    let mut pool = service(&[80], &[(1, 1, true)]);
    let plan = world.reconcile(&one(pool.clone()));
    place(&mut world, &plan);
    world.reconcile(&one(pool.clone()));
    pool.record.scheduler = Scheduler::Source as u8;
    world.reconcile(&one(pool.clone()));
    assert!(moved(&world));

    world.reconcile(&one(pool.clone()));
    assert!(!moved(&world));
    pool.listens.insert(listen(Ports::one(81)));
    assert!(!world.reconcile(&one(pool)).turned.is_empty());
    assert!(moved(&world));
}

#[test]
fn a_service_that_goes_by_more_than_its_table_always_asks() {
    let mut world = World::new();
    let pool = one(desired::Service { always_moved: true, ..service(&[80], &[(1, 1, true)]) });
    let plan = world.reconcile(&pool);
    place(&mut world, &plan);
    world.reconcile(&pool);
    assert!(moved(&world));
}

#[test]
fn a_syn_is_decided_by_the_table_alone_where_nothing_else_is_asked_of_its_service() {
    type Change = fn(&mut desired::Service);
    let cases: [(&str, bool, Change); 7] = [
        ("tunnel", true, |_| {}),
        ("direct", true, |service| service.record.method = Method::Direct as u8),
        ("nat", false, |service| service.record.method = Method::Nat as u8),
        ("a scheduler that counts", false, |service| service.record.scheduler = Scheduler::Turn as u8),
        ("lists", false, |service| service.record.flags |= LISTS),
        ("a limit", false, |service| service.record.rate = Rate { per_jiffy: 1, burst: 1 }),
        ("flows that may be elsewhere", false, |service| service.always_moved = true),
    ];
    for (what, expected, change) in cases {
        let mut world = World::new();
        let mut pool = service(&[80], &[(1, 1, true)]);
        pool.record.method = Method::Tunnel as u8;
        change(&mut pool);
        let plan = world.reconcile(&one(pool.clone()));
        assert_eq!(world.record(80).flags & STATELESS, 0, "{what}: nobody has looked yet");
        place(&mut world, &plan);
        world.reconcile(&one(pool));
        assert_eq!(world.record(80).flags & STATELESS != 0, expected, "{what}");
    }
}

fn flow(client: u32, port: u16) -> (MappedKey, FlowKey<V4>) {
    let key = FlowKey {
        source: V4(client.to_be()),
        destination: V4::from_mapped(address()),
        ports: FlowPorts { source: 40_000_u16.to_be(), destination: port.to_be() },
        protocol: 6,
    };
    (key.mapped(), key)
}

#[test]
fn a_flow_is_elsewhere_if_its_services_table_does_not_lead_to_its_backend() {
    let mut world = World::new();
    let ranged = desired::Service {
        listens: [listen(Ports { first: 8000, last: 8099 })].into(),
        ..service(&[], &[(3, 1, true), (4, 1, true)])
    };
    let mut by_source = service(&[90], &[(5, 1, true), (6, 1, true)]);
    by_source.record.scheduler = Scheduler::Source as u8;
    let mut turning = service(&[91], &[(5, 1, true)]);
    turning.record.scheduler = Scheduler::Turn as u8;
    let services = [
        ("web", service(&[80], &[(1, 1, true), (2, 1, true)])),
        ("ranged", ranged),
        ("source", by_source),
        ("turn", turning),
    ];
    let services = services.into_iter().map(|(name, service)| (key(name), service)).collect();
    let plan = world.reconcile(&Desired { services });
    let expected = Expected::of(&world.actual);
    for client in 0..50 {
        for (name, port, hash) in [
            ("web", 80, (flow_hash(&flow(client, 80).1) >> 32) as u32),
            ("ranged", 8042, (flow_hash(&flow(client, 8042).1) >> 32) as u32),
            ("source", 90, source_hash(flow(client, 90).1.source)),
        ] {
            let number = plan.services[&key(name)];
            let table = &world.actual.tables[&world.actual.services[&number].table];
            let there = table[table_entry(hash) as usize];
            let (mapped, _) = flow(client, port);
            assert_eq!(expected.misplaced(&mapped, there), None, "{name}");
            assert_eq!(expected.misplaced(&mapped, there + 1000), Some(number), "{name}");
        }
    }
    assert_eq!(expected.misplaced(&flow(1, 91).0, 1), None, "no table tells");
    assert_eq!(expected.misplaced(&flow(1, 7999).0, 1), None, "no service");
    assert_eq!(expected.misplaced(&flow(1, 0).0, 1), None, "no port");
}

#[test]
fn where_a_table_of_unknown_contents_leads_nobody_says_so_its_flows_may_be_elsewhere() {
    let mut world = World::new();
    world.reconcile(&one(service(&[80], &[(1, 1, true)])));
    let (number, table) = (world.number(80), world.record(80).table);
    world.actual.tables.insert(table, [].into());
    assert_eq!(Expected::of(&world.actual).misplaced(&flow(1, 80).0, 0), Some(number));
}
