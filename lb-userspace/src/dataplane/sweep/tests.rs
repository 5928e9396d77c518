use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use lb_common::backend::Hop;
use lb_common::flow::{CLAIMED, SEEN_FIN, SEEN_RST, Slot, UDP};
use lb_common::limits;
use lb_common::service::Method;
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::*;
use crate::dataplane::clock::Clock;
use crate::dataplane::expiry::State;
use crate::dataplane::flow_table::key;
use crate::dataplane::flow_table::tests::{TableFile, halves, memory_file, pool, put, words};

const BOTH: [Method; 2] = [Method::Nat, Method::FullNat];
const SETS: u32 = 256;

/// A second is a jiffy here.
struct Bench {
    sweeper: Sweeper,
    orders: Orders,
    hops: Hops,
    ipv4_file: TableFile<V4>,
    hops_file: OwnedFd,
    graces: AtomicU64,
}

impl Bench {
    fn new() -> Self {
        let hops_file = memory_file(limits::HOPS as usize * size_of::<Hop>());
        let ipv4_file = TableFile::new(SETS);
        let sweeper =
            Sweeper::new(ipv4_file.map(), TableFile::new(SETS).map(), Hops::map(hops_file.as_fd()).unwrap());
        let orders = Orders { pool: Arc::new(pool::<V4>()), ..Orders::default() };
        let hops = Hops::map(hops_file.as_fd()).unwrap();
        Self { sweeper, orders, hops, ipv4_file, hops_file, graces: AtomicU64::new(0) }
    }

    /// The IPv4 table as a program on another CPU has it.
    fn twin(&self) -> FlowTable<V4> {
        self.ipv4_file.map()
    }

    fn twin_hops(&self) -> Hops {
        Hops::map(self.hops_file.as_fd()).unwrap()
    }

    fn sweep(&mut self, now: u32) -> Census {
        self.sweep_while(now, || {})
    }

    /// `meanwhile` happens before the first grace period is over.
    fn sweep_while(&mut self, now: u32, meanwhile: impl FnOnce()) -> Census {
        let ticks = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let graces = &self.graces;
        let mut meanwhile = Some(meanwhile);
        self.sweeper.sweep(&self.orders, Now { jiffies: now, ticks: &ticks }, || {
            graces.fetch_add(1, SeqCst);
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile();
            }
        })
    }

    /// As often as it takes for every half to have had its turn.
    fn sweep_all(&mut self, now: u32) -> Vec<Census> {
        (0..16).map(|_| self.sweep(now)).collect()
    }

    fn put(&self, number: u32, method: Method, bits: (u32, u32), seen: (u32, u32)) -> (u32, Option<u32>) {
        put(&self.sweeper.ipv4, number, method, bits, seen)
    }

    fn live(&self) -> usize {
        self.sweeper.ipv4.live().count()
    }

    fn used(&self) -> usize {
        self.sweeper.ipv4.used().count()
    }
}

fn expiring<A: Address>(table: impl Fn(&Bench) -> &FlowTable<A>) {
    for method in BOTH {
        for seen in [(50, 10), (10, 50)] {
            let mut bench = Bench::new();
            bench.orders.pool = Arc::new(pool::<A>());
            put(table(&bench), 3, method, (0, 0), seen);
            bench.sweep_all(949);
            assert_eq!(table(&bench).live().count(), 2, "{method:?}: one half was busy");
            let expired: u64 = bench.sweep_all(950).iter().map(|census| census.expired).sum();
            assert_eq!(expired, 1);
            assert_eq!(table(&bench).used().count(), 0, "{method:?}: both halves are freed");
        }
    }
}

#[test]
fn both_halves_expire_together_when_the_last_one_was_silent_for_long() {
    expiring::<V4>(|bench| &bench.sweeper.ipv4);
    expiring::<Addr>(|bench| &bench.sweeper.ipv6);
}

#[test]
fn each_state_expires_in_its_own_time_and_is_counted_until_then() {
    for (method, bits, state, seconds) in [
        (Method::Nat, (SEEN_FIN, 0), State::FinWait, 120),
        (Method::Nat, (0, SEEN_FIN), State::CloseWait, 60),
        (Method::FullNat, (SEEN_FIN, SEEN_FIN), State::TimeWait, 120),
        (Method::FullNat, (0, SEEN_RST), State::Close, 10),
        (Method::Nat, (SEEN_RST, 0), State::FinWait, 120),
        (Method::Tunnel, (SEEN_FIN, 0), State::TimeWait, 120),
        (Method::Direct, (UDP, 0), State::Udp, 300),
        (Method::Nat, (UDP, UDP), State::Udp, 300),
        (Method::Nat, (0, 0), State::Established, 900),
    ] {
        let mut bench = Bench::new();
        bench.put(5, method, bits, (100, 100));
        let census = bench.sweep(100 + seconds - 1);
        assert_eq!(census.states[&state], 1, "{method:?} {bits:?}");
        assert_eq!(census.states.values().sum::<u64>(), 1);
        assert_eq!(census.all, BTreeMap::from([(5, 1)]));
        assert_eq!(census.active.get(&5).copied(), state.is_active().then_some(1));
        let census = bench.sweep(100 + seconds);
        assert_eq!((census.expired, bench.used()), (1, 0), "{method:?} {bits:?}");
        assert_eq!(census.all, BTreeMap::new());
        assert_eq!(census.entries(), 0);
    }
}

#[test]
fn a_lost_half_is_made_anew_or_its_flow_is_gone() {
    for (method, lost, whole) in [
        (Method::Nat, 0, true),
        (Method::Nat, 1, true),
        (Method::FullNat, 1, true),
        (Method::FullNat, 0, false),
    ] {
        let mut bench = Bench::new();
        let (forward, reply) = bench.put(7, method, (0, 0), (1, 1));
        let before = bench.sweeper.ipv4.get([forward, reply.unwrap()][lost]).unwrap();
        bench.sweeper.ipv4.kill([forward, reply.unwrap()][lost]);
        let censuses = bench.sweep_all(2);
        let repaired: u64 = censuses.iter().map(|census| census.repaired).sum();
        assert_eq!((repaired, bench.live()), if whole { (1, 2) } else { (0, 0) }, "{method:?} {lost}");
        bench.sweep(2);
        assert_eq!(bench.used(), bench.live());
        if whole {
            let made = bench.sweeper.ipv4.find(&key(&before)).and_then(|at| bench.sweeper.ipv4.get(at));
            assert_eq!(made.map(|made| words(&made)), Some(words(&before)), "{method:?} {lost}");
        }
    }
}

#[test]
fn a_half_whose_other_half_is_just_being_stored_is_left_alone() {
    for method in BOTH {
        let mut bench = Bench::new();
        let (forward, _) = halves::<V4>(7, method, 0, 0);
        let at = bench.sweeper.ipv4.insert(&forward).unwrap();
        let (_, reply) = halves::<V4>(7, method, 0, at);
        let reply = reply.unwrap();
        assert_eq!(bench.live(), 1);
        for now in 0..16 {
            // The program stores the reply half while the sweep waits for it to end.
            let other = bench.twin();
            let census = bench.sweep_while(now, || {
                if other.find(&key(&reply)).is_none() {
                    other.insert(&reply).unwrap();
                }
            });
            assert_eq!((census.repaired, census.orphaned), (0, 0), "{method:?}");
        }
        assert_eq!(bench.live(), 2);
    }
}

#[test]
fn of_a_flow_that_two_programs_stored_at_once_one_copy_is_left() {
    for method in BOTH {
        let mut bench = Bench::new();
        bench.put(7, method, (0, 0), (1, 1));
        bench.put(7, method, (0, 0), (1, 1));
        assert_eq!(bench.live(), 4);
        for _ in 0..3 {
            bench.sweep_all(2);
        }
        assert_eq!((bench.live(), bench.used()), (2, 2), "{method:?}");
    }
}

#[test]
fn a_flow_of_a_backend_that_is_not_in_the_pool_expires_by_itself() {
    let mut bench = Bench::new();
    bench.orders.pool = Arc::default();
    for method in BOTH {
        bench.put(method as u32, method, (0, 0), (1, 1));
    }
    bench.sweep_all(900);
    assert_eq!(bench.live(), 4);
    bench.sweep_all(901);
    assert_eq!(bench.used(), 0);
}

#[test]
fn what_died_is_freed_after_a_grace_period_and_an_idle_table_waits_for_none() {
    let mut bench = Bench::new();
    let (at, _) = bench.put(1, Method::Tunnel, (0, 0), (1, 1));
    bench.sweep(1);
    assert_eq!(bench.graces.load(SeqCst), 0);
    bench.sweeper.ipv4.kill(at);
    assert_eq!(bench.used(), 1);
    bench.sweep(1);
    assert_eq!((bench.used(), bench.graces.load(SeqCst)), (0, 1));
    assert!(bench.sweeper.ipv4.is_all_zeros());
}

#[test]
fn a_slot_that_nobody_fills_is_free_after_two_sweeps() {
    let mut bench = Bench::new();
    let half = Slot { state: CLAIMED, ..halves::<V4>(1, Method::Tunnel, 0, 0).0 };
    bench.sweeper.ipv4.insert(&half).unwrap();
    bench.sweep(1);
    assert_eq!(bench.used(), 1);
    bench.sweep(2);
    assert_eq!(bench.used(), 0);
    assert!(bench.sweeper.ipv4.is_all_zeros());
}

#[test]
fn flows_are_taken_out_of_use_with_both_halves_and_no_others() {
    let mut bench = Bench::new();
    for flow in 0..32 {
        for method in [Method::Nat, Method::FullNat, Method::Tunnel] {
            bench.put(flow + 1000 * method as u32, method, (0, 0), (1, 1));
        }
    }
    let all = bench.live();
    let pool = Arc::clone(&bench.orders.pool);
    let of_backend = |backend: u32| move |flow: &Flow| flow.is_forward() && flow.backend == backend;
    let with = bench.sweeper.ipv4.live().filter(|(_, half)| lb_common::flow::backend(half.place) == 3);
    let expected = with.count();
    assert!(expected > 0);
    assert_eq!(bench.sweeper.kill_where(&pool, of_backend(3)), expected as u64);
    let census = bench.sweep(2);
    assert_eq!((bench.live(), bench.used()), (all - expected, all - expected));
    assert!(!census.all.contains_key(&3) && census.all.contains_key(&4));
    bench.sweep_all(2);
    assert_eq!(bench.live(), all - expected);
}

#[tokio::test]
async fn the_thread_sweeps_does_as_it_is_told_and_ends_with_its_listener() {
    let within = Duration::from_secs(60);
    let bench = Bench::new();
    let clock = Clock::of(250.0);
    let now = clock.jiffies(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into());
    for (flow, idle) in [(1, 0), (2, 0), (3, 3 * 250)] {
        bench.put(flow, Method::Nat, (0, 0), [now.wrapping_sub(idle); 2].into());
    }
    let table = bench.twin();
    let live = || table.live().count();
    let (censuses, mut inbox) = mpsc::channel(1);
    let Bench { sweeper, orders, .. } = bench;
    let sweep = start(sweeper, clock, orders.clone(), censuses).unwrap();
    assert_eq!(timeout(within, inbox.recv()).await.unwrap().unwrap().all.len(), 3);
    let timeouts = Timeouts { established: Duration::from_secs(2), ..Timeouts::default() };
    let killed = sweep.kill_where(|flow| flow.backend == 1).unwrap();
    assert_eq!(timeout(within, killed).await.unwrap().unwrap(), 2);
    assert_eq!(live(), 4);
    sweep.order(Orders { timeouts, ..orders }).unwrap();
    let mut expired = 0;
    while expired == 0 {
        expired = timeout(within, inbox.recv()).await.unwrap().unwrap().expired;
    }
    assert!(live() <= 2);
    drop(inbox);
    // What it holds is dropped when it ends, the predicate with it.
    let (held, dropped) = oneshot::channel::<()>();
    let asked = sweep.kill_where(move |_| held.is_closed());
    drop(asked);
    assert!(timeout(within, dropped).await.unwrap().is_err());
}

#[test]
fn flows_that_are_elsewhere_are_counted_by_service_if_somebody_asks() {
    let mut bench = Bench::new();
    for flow in 0..32 {
        bench.put(flow, Method::Nat, (0, 0), (1, 1));
    }
    assert_eq!(bench.sweep(1).misplaced, None);
    bench.orders.misplaced = Some(Arc::new(|flow| (flow.backend == 3).then_some(9)));
    assert_eq!(bench.sweep(1).misplaced, Some(BTreeMap::from([(9, 2)])));
    bench.orders.misplaced = Some(Arc::new(|_| None));
    assert_eq!(bench.sweep(1).misplaced, Some(BTreeMap::new()));
}

#[test]
fn a_hop_is_freed_when_no_flow_had_it_in_two_sweeps_and_for_long() {
    let mut bench = Bench::new();
    bench.put(1, Method::Nat, (0, 0), (1, 1));
    for (hop, last_used) in [(7, 0), (8, 0), (9, 100), (10, 0)] {
        bench.hops.put(hop, last_used);
    }
    let left = |bench: &Bench| bench.hops.live().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(bench.sweep(150).hops, 4);
    assert_eq!(left(&bench), [7, 8, 9, 10]);
    // A program finds hop 10 just before it is withdrawn, and gives it to a flow.
    let other = bench.twin_hops();
    bench.sweep_while(150, || other.use_at(10, 150));
    assert_eq!(left(&bench), [7, 9, 10], "7 is a flow's, 9 was used lately, 10 just now");
    bench.sweep(220);
    bench.sweep(400);
    assert_eq!(left(&bench), [7]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is lost of some flows, and whenever: what a sweep of every half leaves are whole flows.
    #[test]
    fn after_any_losses_every_flow_is_whole_or_gone(
        losses in prop::collection::vec((0_u32..40, 0_u8..5), 0..60),
        stored in prop::collection::vec((0_u32..40, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let mut bench = Bench::new();
        for (number, udp, full) in stored {
            let bits = if udp { UDP } else { 0 };
            let method = if full { Method::FullNat } else { Method::Nat };
            bench.put(number + 1000 * method as u32, method, (bits, bits), (1, 1));
        }
        let slots: Vec<u32> = bench.sweeper.ipv4.live().map(|(at, _)| at).collect();
        for (which, sweeps) in losses {
            bench.sweeper.ipv4.kill(slots[which as usize % slots.len()]);
            (0..sweeps).for_each(|_| drop(bench.sweep(2)));
        }
        for _ in 0..3 {
            bench.sweep_all(2);
        }
        let table = &bench.sweeper.ipv4;
        let mut forward = 0_u64;
        for (at, half) in table.live() {
            let whole = matches!(table.other_half(at, &half, &bench.orders.pool), Other::There { .. });
            prop_assert!(whole, "{:?}", Flow::of(&half));
            prop_assert!(table.is_found(at, &half));
            forward += u64::from(Flow::of(&half).unwrap().is_forward());
        }
        prop_assert_eq!(bench.live() as u64, forward * 2);
        prop_assert_eq!(bench.used(), bench.live());
        let census = bench.sweep(2);
        prop_assert_eq!(census.all.values().sum::<u64>(), forward);
        prop_assert_eq!(census.active.values().sum::<u64>(), forward);
    }
}
