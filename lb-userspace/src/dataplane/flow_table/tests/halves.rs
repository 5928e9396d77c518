//! Which half belongs to which.

use lb_common::addr::{Addr, Address, V4};
use lb_common::flow::{Slot, UDP, VERSION_SHIFT, backend, port};
use lb_common::service::Method;

use super::super::flow::{Flow, Half};
use super::super::pairs::{Other, missing_half};
use super::{IDENTITY, address, halves, pool, put, table, words};
use crate::dataplane::flow_table::pool::Pool;
use crate::dataplane::flow_table::{FlowTable, key};

const BOTH: [Method; 2] = [Method::Nat, Method::FullNat];

fn number_of<A: Address>(other: &Other<A>) -> Option<u32> {
    match other {
        Other::There { number, .. } => Some(*number),
        Other::None | Other::Missing | Other::Taken | Other::Unknown => None,
    }
}

fn halves_find_each_other<A: Address>() {
    let (table, pool): (FlowTable<A>, _) = (table(1 << 8), pool::<A>());
    for method in BOTH {
        for flow in 0..100 {
            let bits = if flow % 3 == 0 { UDP } else { 0 };
            let (forward, reply) = put(&table, flow + method as u32 * 1000, method, (bits, bits), (1, 2));
            let reply = reply.unwrap();
            let other = |number| table.other_half(number, &table.get(number).unwrap(), &pool);
            assert_eq!(number_of(&other(forward)), Some(reply), "{method:?} {flow}");
            assert_eq!(number_of(&other(reply)), Some(forward), "{method:?} {flow}");
        }
    }
}

#[test]
fn the_halves_of_a_flow_find_each_other() {
    halves_find_each_other::<V4>();
    halves_find_each_other::<Addr>();
}

fn made_anew<A: Address>() {
    let pool = pool::<A>();
    for flow in 0..100 {
        let bits = if flow % 3 == 0 { UDP } else { 0 };
        for method in BOTH {
            let (forward, reply) = halves::<A>(flow, method, bits, 42);
            let made = missing_half(42, &forward, &pool).unwrap();
            assert_eq!(words(&made), words(&reply.unwrap()), "{method:?} {flow}");
        }
        let (forward, reply) = halves::<A>(flow, Method::Nat, bits, 0);
        let made = missing_half(0, &reply.unwrap(), &pool).unwrap();
        assert_eq!(words(&made), words(&forward), "{flow}");
    }
}

#[test]
fn a_half_is_made_anew_as_it_was() {
    made_anew::<V4>();
    made_anew::<Addr>();
}

#[test]
fn only_the_client_tells_who_it_is_with_fullnat() {
    let (_, reply) = halves::<V4>(1, Method::FullNat, 0, 42);
    assert!(missing_half(43, &reply.unwrap(), &pool::<V4>()).is_none());
}

#[test]
fn a_flow_does_not_come_back_to_a_backend_that_has_got_the_number_of_its_own() {
    let (_, reply) = halves::<V4>(1, Method::Nat, 0, 0);
    let other = *pool::<V4>().get(3).unwrap();
    let pool = Pool::new([(1, other)], []);
    assert!(missing_half(0, &reply.unwrap(), &pool).is_none());
}

#[test]
fn a_half_of_another_flow_is_not_taken_for_the_other_one() {
    let (table, pool): (FlowTable<V4>, _) = (table(1 << 8), pool::<V4>());
    for method in BOTH {
        let (at, _) = put(&table, method as u32, method, (0, 0), (0, 0));
        let forward = table.get(at).unwrap();
        let moved = Slot { place: forward.place ^ 1, ..forward };
        assert!(matches!(table.other_half(at, &moved, &pool), Other::Unknown | Other::Missing), "{method:?}");
        let (_, reply) = halves::<V4>(method as u32, method, 0, at);
        let reply = reply.unwrap();
        let elsewhere = Slot { place: reply.place ^ 1, ..reply };
        assert!(matches!(table.other_half(at + 1, &elsewhere, &pool), Other::Taken), "{method:?}");
    }
}

#[test]
fn without_its_backend_in_the_pool_nobody_knows_where_the_reply_half_is() {
    let table: FlowTable<V4> = table(1 << 8);
    for method in BOTH {
        let (forward, reply) = put(&table, method as u32, method, (0, 0), (0, 0));
        let other = |number: u32| table.other_half(number, &table.get(number).unwrap(), &Pool::default());
        assert!(matches!(other(forward), Other::Unknown), "{method:?}");
        assert_eq!(number_of(&other(reply.unwrap())), Some(forward), "{method:?}");
    }
}

fn told_in_words<A: Address>() {
    let (forward, reply) = halves::<A>(5, Method::Nat, 0, 0);
    let flow = Flow::of(&forward).unwrap();
    assert_eq!(flow.key, key(&forward).mapped());
    assert_eq!((flow.method, flow.backend, flow.hop), (Method::Nat, 5, 7));
    assert_eq!(flow.half, Half::Forward { identity: IDENTITY + 5 });
    let service = address::<A>(203, 1).mapped();
    let half = Flow::of(&reply.unwrap()).unwrap().half;
    assert_eq!(half, Half::Service { address: service, port: 443_u16.to_be() });
    let (forward, reply) = halves::<A>(5, Method::FullNat, 0, 9);
    let half = Half::Allocated { identity: IDENTITY + 5, source: 33, port: port(forward.state) };
    assert_eq!(Flow::of(&forward).unwrap().half, half);
    assert_eq!(Flow::of(&reply.unwrap()).unwrap().half, Half::Partner { slot: 9 });
    assert_eq!(backend(forward.place), 5);
    let newer = Slot { state: forward.state ^ 3 << VERSION_SHIFT, ..forward };
    assert_eq!(Flow::of(&newer), None);
}

#[test]
fn a_half_says_everything_about_itself() {
    told_in_words::<V4>();
    told_in_words::<Addr>();
}
