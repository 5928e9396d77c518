//! What belongs to a service beside its backends and tables.

use lb_common::service::{LISTS, Range, SOURCE_DENIED, Scheduler, Sources};

use super::*;
use crate::desired::{Outer, SourcePrefix};
use crate::reconcile::plan::{PlanError, ServerId};

const fn range(first: u16, last: u16) -> Ports {
    Ports { first, last }
}

fn listening(listens: &[Ports]) -> desired::Service {
    let listens = listens.iter().map(|ports| listen(*ports)).collect();
    desired::Service { listens, ..service(&[], &[(1, 1, true)]) }
}

fn ranges(world: &World) -> Vec<Range> {
    let record = world.actual.listeners[&listener(0)];
    world.actual.ranges[&record].ranges.iter().copied().filter(|range| range.last != 0).collect()
}

#[test]
fn single_ports_are_exact_and_ranges_of_all_services_share_a_record() {
    let mut world = World::new();
    let desired = Desired {
        services: BTreeMap::from([
            (key("web"), listening(&[Ports::one(80), range(8000, 8099)])),
            (key("api"), listening(&[range(9000, 9099)])),
        ]),
    };
    let plan = world.reconcile(&desired);
    let (web, api) = (plan.services[&key("web")], plan.services[&key("api")]);
    assert_eq!(world.number(80), web);
    assert_eq!(
        ranges(&world),
        [Range { first: 8000, last: 8099, service: web }, Range { first: 9000, last: 9099, service: api }]
    );
    assert_eq!(world.reconcile(&desired).steps, []);
    assert_eq!(world.actual.addresses, [address()].into());
}

#[test]
fn a_range_that_stays_keeps_its_place_and_its_service_its_number() {
    let mut world = World::new();
    let before = world.reconcile(&one(listening(&[range(2000, 2999), range(4000, 4999)])));
    let places = |world: &World| world.actual.ranges[&world.actual.listeners[&listener(0)]].ranges;
    let there = places(&world);
    let after = world.reconcile(&one(listening(&[range(1000, 1999), range(4000, 4999)])));
    assert_eq!(before.services, after.services);
    assert_eq!(places(&world)[1], there[1]);
    assert_eq!((places(&world)[0].first, places(&world)[0].last), (1000, 1999));
    world.reconcile(&one(service(&[80], &[(1, 1, true)])));
    assert!(world.actual.ranges.is_empty() && !world.actual.listeners.contains_key(&listener(0)));
}

#[test]
fn more_ranges_than_a_record_holds_are_refused_before_anything_is_changed() {
    let many: Vec<Ports> = (0..17).map(|n| range(1000 + n * 10, 1005 + n * 10)).collect();
    let desired = one(listening(&many));
    assert_eq!(check(&desired, &Actual::default()), Err(PlanError::TooManyRanges));
}

#[test]
fn the_data_plane_is_told_the_members_of_a_few_in_the_order_of_the_configuration() {
    let mut world = World::new();
    let mut pool = service(&[80], &[(3, 1, true), (1, 1, true), (2, 0, true)]);
    pool.record.scheduler = Scheduler::LeastConnections as u8;
    (pool.members, pool.kind) = (2, Kind::WeightedTurns);
    let plan = world.reconcile(&one(pool.clone()));
    let number = |last| plan.backends[&(key("web"), backend(last))] as u16;
    let members = world.actual.members[&world.number(80)];
    assert_eq!((members.count, &members.backends[..2]), (2, &[number(3), number(1)][..]));

    pool.backends[2].weight = 1;
    world.reconcile(&one(pool));
    assert!(world.actual.members.is_empty(), "too many: it goes by the table");
}

#[test]
fn pools_lists_and_server_ids_come_before_their_service_and_go_after_it() {
    let mut world = World::new();
    let prefix = SourcePrefix { network: address(), length: 128 };
    let mut whole = service(&[80], &[(1, 1, true)]);
    whole.pool = Some(Sources { count: 1, ports: 100, ..Sources::default() });
    whole.sources.insert(prefix, SOURCE_DENIED);
    whole.record.flags = LISTS;
    whole.quic.insert([7; 8], backend(1));
    let plan = world.reconcile(&one(whole.clone()));
    let place = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted).unwrap();
    let record = place(|step| matches!(step, Step::WriteService(..)));
    assert!(place(|step| matches!(step, Step::WritePool(..))) < record);
    assert!(place(|step| matches!(step, Step::WriteSource(..))) < record);
    assert!(place(|step| matches!(step, Step::WriteServerId(..))) < record);
    let number = world.number(80);
    assert_eq!(world.record(80).sources, number);
    assert_eq!(world.actual.sources, [((number, prefix), SOURCE_DENIED)].into());
    let backend = plan.backends[&(key("web"), backend(1))];
    assert_eq!(world.actual.quic, [(ServerId { service: number, id: [7; 8] }, backend)].into());
    assert_eq!(world.reconcile(&one(whole)).steps, []);

    let plan = world.reconcile(&one(service(&[80], &[(1, 1, true)])));
    let place = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted).unwrap();
    let record = place(|step| matches!(step, Step::WriteService(..)));
    assert!(place(|step| matches!(step, Step::RemoveSource(..))) > record);
    assert!(world.actual.sources.is_empty() && world.actual.quic.is_empty());
    assert_eq!(world.actual.pools.len(), 1, "the flows it has had go on from their addresses");

    world.circumstances.unused = world.actual.backends.keys().copied().collect();
    for _ in 0..2 {
        world.reconcile(&Desired::default());
    }
    assert!(world.actual.pools.is_empty(), "no backend is left");
}

#[test]
fn a_backend_has_its_name_limits_and_weight() {
    let mut world = World::new();
    let mut pool = service(&[80], &[(1, 7, true)]);
    (pool.backends[0].high, pool.backends[0].low) = (100, 80);
    let identity = pool.backends[0].identity;
    world.reconcile(&one(pool));
    let record = world.actual.backends.values().next().unwrap();
    assert_eq!((record.weight, record.high, record.low, record.identity), (7, 100, 80, identity));
    assert_eq!((record.tunnel_source, record.outer_sum), (Addr::default(), 0), "no tunnel");
}

#[test]
fn a_service_renamed_keeps_the_names_that_flows_know_its_backends_by() {
    let mut world = World::new();
    let mut pool = service(&[80], &[(1, 1, true)]);
    world.reconcile(&one(pool.clone()));
    pool.backends[0].identity ^= 1;
    let plan = world.reconcile(&Desired { services: BTreeMap::from([(key("www"), pool)]) });
    assert_eq!(plan.steps, []);
}

#[test]
fn a_tunnel_has_the_nodes_own_source_or_the_prefix_it_was_given() {
    let mut world = World::new();
    let mut pool = service(&[80], &[(1, 1, true), (2, 1, true)]);
    let outer =
        |source| Outer { encapsulation: lb_common::backend::Encapsulation::Gue, gue_port: 6080, source };
    pool.backends[0].outer = Some(outer(None));
    pool.backends[1].outer = Some(outer(Some((IpAddr::from([10, 255, 0, 0]), 16))));
    world.reconcile(&one(pool));
    let records: Vec<_> = world.actual.backends.values().collect();
    assert_eq!((records[0].tunnel_source, records[0].spread), (Addr::from(IpAddr::from([10, 0, 0, 1])), 0));
    assert_eq!(
        (records[1].tunnel_source, records[1].spread),
        (Addr::from(IpAddr::from([10, 255, 0, 0])), 16)
    );
    for record in records {
        assert_eq!((record.encapsulation, record.gue_port), (1, 6080_u16.to_be()));
        let sum = lb_common::checksum::outer_sum(record.tunnel_source.v4(), record.address.v4());
        assert_eq!(record.outer_sum, sum);
    }
}

#[test]
fn a_backend_that_left_serves_no_more_once_its_time_is_over() {
    let mut world = World::new();
    let before = world.reconcile(&one(service(&[80], &[(1, 1, true), (2, 1, true)])));
    let leaving = before.backends[&(key("web"), backend(1))];
    let pool = one(service(&[80], &[(2, 1, true)]));
    world.reconcile(&pool);
    assert_eq!(world.actual.backends[&leaving].flags & SERVING, SERVING);
    assert_eq!(world.actual.backends[&leaving].weight, 0);
    world.circumstances.overdue.insert(leaving);
    let plan = world.reconcile(&pool);
    assert_eq!(world.actual.backends[&leaving].flags & SERVING, 0);
    assert!(plan.draining.contains(&leaving), "its flows may still be there");
}
