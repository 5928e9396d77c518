//! How long a sweep takes; told, not tested: `cargo test --release speed -- --ignored --nocapture --test-threads 1`.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::addr::{Addr, Address, V4};
use lb_common::backend::Hop;
use lb_common::flow::SEEN_FIN;
use lb_common::limits;
use lb_common::service::Method;

use super::super::hops::Hops;
use super::{SEED, halves, memory_file, pool, table_file};
use crate::dataplane::flow_table::FlowTable;
use crate::dataplane::sweep::{Now, Orders, Sweeper};

const SETS: u32 = 1 << 20;

fn filled<A: Address>(sets: u32, flows: u32, method: Method, bits: u32) -> FlowTable<A> {
    let table: FlowTable<A> = FlowTable::map(table_file::<A>(sets).as_fd(), sets, SEED).unwrap();
    let full = (0..flows).filter(|flow| {
        let (forward, _) = halves::<A>(*flow, method, bits, 0);
        let Ok(at) = table.insert(&forward) else {
            return true;
        };
        let (_, reply) = halves::<A>(*flow, method, bits, at);
        reply.is_some_and(|reply| table.insert(&reply).is_err())
    });
    println!("of {flows} flows {} found no slot", full.count());
    table
}

fn tell(what: &str, sweeper: &mut Sweeper, orders: &Orders, now: u32) {
    let ticks = |time: Duration| time.as_secs() as u32;
    for round in 0..4 {
        let (started, mut waited) = (Instant::now(), None);
        let census = sweeper.sweep(orders, Now { jiffies: now, ticks: &ticks }, || {
            waited = Some(started.elapsed());
        });
        println!(
            "{what}, sweep {round}: {:?}, of it before the grace period {waited:?}; {} entries, {} expired",
            started.elapsed(),
            census.entries(),
            census.expired
        );
    }
}

fn sweeper(ipv4: FlowTable<V4>, ipv6: FlowTable<Addr>) -> Sweeper {
    let hops = memory_file(limits::HOPS as usize * size_of::<Hop>());
    Sweeper::new(ipv4, ipv6, Hops::map(hops.as_fd()).unwrap())
}

#[test]
#[ignore = "takes time and half a gigabyte of memory, and asserts nothing"]
fn speed_of_a_sweep() {
    let orders = Orders { pool: Arc::new(pool::<V4>()), ..Orders::default() };
    for (what, flows, method, bits) in [
        ("4 million flows by tunnel", 4_000_000, Method::Tunnel, 0),
        ("2.4 million flows by nat", 2_400_000, Method::Nat, 0),
        ("2.4 million flows by nat that have ended", 2_400_000, Method::Nat, SEEN_FIN),
    ] {
        let mut sweeper = sweeper(filled(SETS, flows, method, bits), filled(2, 0, method, 0));
        tell(what, &mut sweeper, &orders, 0);
        tell(&format!("{what}, as they expire"), &mut sweeper, &orders, 10_000);
    }
}

#[test]
#[ignore = "takes time and half a gigabyte of memory, and asserts nothing"]
fn speed_of_a_sweep_over_ipv6() {
    let orders = Orders { pool: Arc::new(pool::<Addr>()), ..Orders::default() };
    let mut sweeper = sweeper(filled(2, 0, Method::Nat, 0), filled(SETS, 2_400_000, Method::Nat, 0));
    tell("2.4 million flows by nat over IPv6", &mut sweeper, &orders, 0);
}
