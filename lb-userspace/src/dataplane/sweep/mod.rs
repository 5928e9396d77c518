//! Sweeps over the flow tables: they let flows expire, count them, free what is dead, see to it that the halves of a
//! flow stay together, and let the part of the table that is in use grow.
//!
//! The program itself takes a flow out of use only when its client opens the connection anew, or when its backend serves
//! no more; it never frees a slot. A sweep passes over both tables, waits for a grace period, and then frees.

mod census;
mod driver;
mod pass;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lb_common::addr::{Addr, Address, V4};

use self::census::Tally;
pub use self::census::{Census, Filling};
pub use self::driver::{Handle, StartError, start};
use self::pass::{Found, Pass, Rules, settle};
use super::expiry::{Allowed, Pressure, Timeouts, silent};
use super::flow_table::FlowTable;
use super::flow_table::flow::Flow;
use super::flow_table::hops::Hops;
use super::flow_table::pairs::Other;
use super::flow_table::pool::Pool;

/// How long no flow was given a hop that is freed, at least: a half-open flow may have it, which is in no flow table.
const HOP_UNUSED: Duration = Duration::from_secs(60);

/// Says of the forward half of a flow the number of its service, if the service's scheduler would have it elsewhere.
pub type Misplaced = dyn Fn(&Flow) -> Option<u32> + Send + Sync;

/// What a sweep goes by.
#[derive(Clone, Default)]
pub struct Orders {
    pub timeouts: Timeouts,
    /// A backend that is not in it keeps its flows: they expire by themselves, but a half that is missing is not made anew.
    pub pool: Arc<Pool>,
    pub misplaced: Option<Arc<Misplaced>>,
}

/// A moment, and what a jiffy is.
#[derive(Clone, Copy)]
pub struct Now<'c> {
    /// Low 32 bits.
    pub jiffies: u32,
    pub ticks: &'c dyn Fn(Duration) -> u32,
}

/// Sweeps the flow tables, and is the only one to free their slots.
pub struct Sweeper {
    pub ipv4: FlowTable<V4>,
    pub ipv6: FlowTable<Addr>,
    hops: Hops,
    tally: Tally,
    turn: u32,
    /// What the last sweep found in each table.
    last: [Last; 2],
    /// Return hops that no flow had in the last sweep.
    unused: BTreeSet<u32>,
}

#[derive(Default)]
struct Last {
    entries: u64,
    /// Slots that were claimed. Nobody who runs now claimed them: a program ends before the grace period does, so it is one
    /// that user space was filling when it was killed. Nothing reads such a slot, it is only one less.
    claimed: Vec<u32>,
}

impl Sweeper {
    #[must_use]
    pub fn new(ipv4: FlowTable<V4>, ipv6: FlowTable<Addr>, hops: Hops) -> Self {
        let last = [Last::default(), Last::default()];
        Self { ipv4, ipv6, hops, tally: Tally::new(), turn: 0, last, unused: BTreeSet::new() }
    }

    /// `grace` returns when every program that ran when it was called has ended.
    pub fn sweep(&mut self, orders: &Orders, now: Now<'_>, mut grace: impl FnMut()) -> Census {
        let mut census =
            Census { misplaced: orders.misplaced.as_ref().map(|_| BTreeMap::new()), ..Census::default() };
        // What an earlier daemon began and did not finish.
        if self.ipv4.is_moving() {
            self.ipv4.grow(0, &orders.pool, &mut grace);
        }
        if self.ipv6.is_moving() {
            self.ipv6.grow(0, &orders.pool, &mut grace);
        }
        self.tally.clear();
        self.turn = self.turn.wrapping_add(1);
        let rules = |table: u64, last: &Last| Rules {
            now: now.jiffies,
            allowed: Allowed::new(&orders.timeouts, Pressure::of(last.entries, table), now.ticks),
            pool: &orders.pool,
            turn: self.turn,
            misplaced: orders.misplaced.as_deref(),
        };
        let rules4 = rules(self.ipv4.slots(), &self.last[0]);
        let rules6 = rules(self.ipv6.slots(), &self.last[1]);
        let found4 = Pass::run(&self.ipv4, &rules4, &mut self.tally, &mut census);
        let found6 = Pass::run(&self.ipv6, &rules6, &mut self.tally, &mut census);
        let unused = HOP_UNUSED.max(orders.timeouts.syn_recv * 2);
        let withdrawn = self.withdraw_hops(now.jiffies, (now.ticks)(unused), &mut census);
        if found4.wants_grace() || found6.wants_grace() || !withdrawn.is_empty() {
            grace();
        }
        census.ipv4 = after(&mut self.ipv4, found4, &mut self.last[0], &orders.pool, &mut census);
        census.ipv6 = after(&mut self.ipv6, found6, &mut self.last[1], &orders.pool, &mut census);
        for (number, last_used) in withdrawn {
            if self.hops.finish(number, last_used) {
                self.unused.remove(&number);
            }
        }
        self.ipv4.grow(census.ipv4.entries, &orders.pool, &mut grace);
        self.ipv6.grow(census.ipv6.entries, &orders.pool, &mut grace);
        self.tally.report(&mut census);
        census
    }

    /// Hops that no flow had in two sweeps. A flow that was given one behind the back of this sweep shows in `last_used`.
    fn withdraw_hops(&mut self, now: u32, long: u32, census: &mut Census) -> Vec<(u32, u32)> {
        let mut unused = BTreeSet::new();
        let mut withdrawn = Vec::new();
        for (number, last_used) in self.hops.live() {
            census.hops += 1;
            if self.tally.has_hop(number) {
                continue;
            }
            unused.insert(number);
            if self.unused.contains(&number) && silent(last_used, now) >= long && self.hops.withdraw(number) {
                withdrawn.push((number, last_used));
            }
        }
        self.unused = unused;
        withdrawn
    }

    /// Takes every flow out of use of which `matches` says so of either half; how many halves. The next sweep frees them.
    pub fn kill_where(&self, pool: &Pool, mut matches: impl FnMut(&Flow) -> bool) -> u64 {
        kill_where(&self.ipv4, pool, &mut matches) + kill_where(&self.ipv6, pool, &mut matches)
    }
}

fn kill_where<A: Address>(table: &FlowTable<A>, pool: &Pool, matches: &mut impl FnMut(&Flow) -> bool) -> u64 {
    let mut killed = 0;
    for (number, half) in table.live() {
        if !Flow::of(&half).is_some_and(|flow| matches(&flow)) {
            continue;
        }
        if let Other::There { number, .. } = table.other_half(number, &half, pool) {
            killed += u64::from(table.kill(number));
        }
        killed += u64::from(table.kill(number));
    }
    killed
}

fn after<A: Address>(
    table: &mut FlowTable<A>,
    found: Found,
    last: &mut Last,
    pool: &Pool,
    census: &mut Census,
) -> Filling {
    settle(table, &found, &last.claimed, pool, census);
    let entries = found.entries;
    *last = Last { entries, claimed: found.claimed };
    Filling { entries, slots: table.slots() }
}
