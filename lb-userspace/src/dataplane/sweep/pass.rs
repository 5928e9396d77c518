//! One pass over a flow table, from its first slot to its last.

#![deny(clippy::disallowed_methods)]

use lb_common::addr::Address;
use lb_common::flow::{self, CLAIMED, REPLY, SEEN_FIN, SEEN_RST, Slot};

use super::Misplaced;
use super::census::{Census, Tally};
use crate::dataplane::expiry::{Allowed, State, silent};
use crate::dataplane::flow_table::flow::{Flow, has_two_halves};
use crate::dataplane::flow_table::pairs::{Other, missing_half};
use crate::dataplane::flow_table::pool::Pool;
use crate::dataplane::flow_table::{FlowTable, Used, is_dead};

/// Slots that one sweep frees, and halves it sees to, at the most: what is beyond has its turn in the next sweeps.
const MOST: usize = 1 << 20;

/// Each sweep looks for the other half of every so manieth half, though it has no reason to.
const TURNS: u32 = 16;
/// Slots beside each other that have their turn together.
const TOGETHER: u32 = 1024;

/// Halves whose other half is fetched into the cache before it is looked at.
const AHEAD: usize = 32;

/// What is the same for every slot.
pub(super) struct Rules<'r> {
    pub(super) now: u32,
    pub(super) allowed: Allowed,
    pub(super) pool: &'r Pool,
    /// Number of the sweep.
    pub(super) turn: u32,
    pub(super) misplaced: Option<&'r Misplaced>,
}

impl Rules<'_> {
    /// The state of a half that needs no look at the other one: it has not ended, was not silent for long, and has not
    /// its turn.
    fn plain(&self, number: u32, state: u32, last_seen: u32) -> Option<State> {
        let looked_at =
            has_two_halves(state) && (state & (SEEN_FIN | SEEN_RST) != 0 || self.has_turn(number));
        let idle = silent(last_seen, self.now) >= self.allowed.worth_a_look(state);
        (!looked_at && !idle).then(|| State::of(state, None))
    }

    const fn has_turn(&self, number: u32) -> bool {
        (number / TOGETHER) % TURNS == self.turn % TURNS
    }
}

/// What is to be done after the grace period, by number of slot.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) dead: Vec<u32>,
    pub(super) claimed: Vec<u32>,
    /// Live, and the other half was not there, or a slot that is found first has the same key, because two programs
    /// inserted a flow at once. A program that has just inserted one half, or removed one, will have inserted or removed
    /// both when it ends.
    orphans: Vec<u32>,
    pub(super) entries: u64,
}

impl Found {
    pub(super) fn wants_grace(&self) -> bool {
        !(self.dead.is_empty() && self.claimed.is_empty() && self.orphans.is_empty())
    }
}

pub(super) struct Pass<'p, A> {
    table: &'p FlowTable<A>,
    rules: &'p Rules<'p>,
    tally: &'p mut Tally,
    census: &'p mut Census,
    found: Found,
    /// Slots before this one have been passed.
    passed: u32,
}

impl<'p, A: Address> Pass<'p, A> {
    pub(super) fn run(
        table: &'p FlowTable<A>,
        rules: &'p Rules<'p>,
        tally: &'p mut Tally,
        census: &'p mut Census,
    ) -> Found {
        let mut pass = Self { table, rules, tally, census, found: Found::default(), passed: 0 };
        let mut queue = [0; AHEAD];
        let mut queued = 0;
        for used in table.used() {
            pass.passed = used.number + 1;
            if pass.visit(&used) {
                continue;
            }
            queue[queued] = used.number;
            queued += 1;
            if queued == AHEAD {
                pass.look(&queue);
                queued = 0;
            }
        }
        pass.look(&queue[..queued]);
        pass.found
    }

    /// `false`: the other half is to be looked at.
    fn visit(&mut self, used: &Used<'_, A>) -> bool {
        let Used { number, state, .. } = *used;
        if state == CLAIMED {
            note(&mut self.found.claimed, number);
            return true;
        }
        if is_dead(state) {
            note(&mut self.found.dead, number);
            return true;
        }
        self.found.entries += 1;
        let place = used.place();
        self.tally.add_hop(flow::hop(place));
        if let Some(misplaced) = self.rules.misplaced
            && state & REPLY == 0
        {
            self.ask(misplaced, number);
        }
        let Some(state_of_flow) = self.rules.plain(number, state, used.last_seen()) else {
            return false;
        };
        if state & REPLY == 0 {
            self.tally.add(flow::backend(place), state_of_flow);
        }
        true
    }

    fn ask(&mut self, misplaced: &Misplaced, number: u32) {
        let flow = self.table.get(number).and_then(|slot| Flow::of(&slot));
        if let Some(service) = flow.and_then(|flow| misplaced(&flow)) {
            *self.census.misplaced.get_or_insert_default().entry(service).or_default() += 1;
        }
    }

    fn look(&mut self, numbers: &[u32]) {
        for number in numbers {
            if let Some(half) = self.table.get(*number) {
                self.table.touch_other(&half, self.rules.pool);
            }
        }
        for number in numbers {
            if let Some(half) = self.table.get(*number) {
                self.judge(*number, &half);
            }
        }
    }

    fn judge(&mut self, number: u32, half: &Slot<A>) {
        let other = self.table.other_half(number, half, self.rules.pool);
        let (there, other_state, last) = match &other {
            Other::There { number, half: other } => {
                let last = self.silence(half).min(self.silence(other));
                (Some((*number, other)), Some(other.state), last)
            }
            Other::None | Other::Missing | Other::Taken | Other::Unknown => (None, None, self.silence(half)),
        };
        let state = State::of(half.state, other_state);
        if last >= self.rules.allowed.of(state) {
            self.expire(number, half, there);
            return;
        }
        if matches!(other, Other::Missing | Other::Taken)
            || self.rules.has_turn(number) && !self.table.is_found(number, half)
        {
            note(&mut self.found.orphans, number);
        }
        if half.state & REPLY == 0 {
            self.tally.add(flow::backend(half.place), state);
        } else if let Some((at, forward)) = there
            && let Some(counted) = self.rules.plain(at, forward.state, forward.last_seen)
            && counted != state
        {
            // Only the reply half tells that the flow has ended: the forward half was, or will be, counted as it looks.
            self.tally.take(flow::backend(forward.place), counted);
            self.tally.add(flow::backend(forward.place), state);
        }
    }

    fn silence(&self, half: &Slot<A>) -> u32 {
        silent(half.last_seen, self.rules.now)
    }

    /// Both halves die together.
    fn expire(&mut self, number: u32, half: &Slot<A>, other: Option<(u32, &Slot<A>)>) {
        let mut forward = self.kill(number) && half.state & REPLY == 0;
        if let Some((at, other)) = other
            && self.kill(at)
            && other.state & REPLY == 0
        {
            forward = true;
            if at < self.passed
                && let Some(counted) = self.rules.plain(at, other.state, other.last_seen)
            {
                self.tally.take(flow::backend(other.place), counted);
            }
        }
        self.census.expired += u64::from(forward);
    }

    /// A slot that was passed is not seen to be dead any more in this sweep, so it is noted here.
    fn kill(&mut self, number: u32) -> bool {
        let killed = self.table.kill(number);
        if killed && number < self.passed {
            self.found.entries = self.found.entries.saturating_sub(1);
            note(&mut self.found.dead, number);
        }
        killed
    }
}

/// After the grace period: frees what was dead before it, and makes each half that is alone whole again, or kills it.
pub(super) fn settle<A: Address>(
    table: &mut FlowTable<A>,
    found: &Found,
    claimed_before: &[u32],
    pool: &Pool,
    census: &mut Census,
) {
    for number in &found.dead {
        table.free(*number);
    }
    for number in &found.claimed {
        if claimed_before.binary_search(number).is_ok() {
            table.free_claimed(*number);
        }
    }
    // A half may be there twice, and the other one names the first.
    let orphans = if table.is_moving() { &[][..] } else { &found.orphans };
    for number in orphans {
        let Some(half) = table.get(*number) else {
            continue;
        };
        if !table.is_found(*number, &half) {
            census.orphaned += u64::from(table.kill(*number));
            continue;
        }
        match table.other_half(*number, &half, pool) {
            Other::None | Other::There { .. } | Other::Unknown => {}
            Other::Missing if restore(table, *number, &half, pool) => census.repaired += 1,
            Other::Missing | Other::Taken => census.orphaned += u64::from(table.kill(*number)),
        }
    }
}

/// Whether the flow has both halves again.
fn restore<A: Address>(table: &FlowTable<A>, number: u32, half: &Slot<A>, pool: &Pool) -> bool {
    let Some(inserted) = missing_half(number, half, pool).and_then(|other| table.insert(&other).ok()) else {
        return false;
    };
    // A program may have removed the flow meanwhile, and did not know this half.
    if table.get(number).is_none() {
        table.kill(inserted);
    }
    true
}

fn note(list: &mut Vec<u32>, number: u32) {
    if list.len() < MOST {
        list.push(number);
    }
}
