//! The flow tables as user space sees them: the same memory that the XDP program works on. See [`lb_common::flow`] for
//! who writes what.
//!
//! ```text
//! program:   free ──claim──► claimed ──publish──► live ──kill──► dead
//! here:        ▲    same        │        same        │    same     │
//!              └────────────────┴──── free, after a grace period ──┘
//! ```
//!
//! Who reads a slot looks at its state first, and at the rest only if it is live. What a program found live it may use
//! until it ends: a dead slot becomes free only after every program that was running when it died has ended
//! ([`grace`]). One thread frees slots, and it alone reads them here, so it needs no such care with itself.

mod extent;
pub mod flow;
pub mod grace;
mod growth;
pub mod hops;
pub mod load;
mod memory;
pub mod pairs;
pub mod pool;
mod slot;
#[cfg(test)]
pub(super) mod tests;

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use lb_common::addr::Address;
use lb_common::extent::{
    beyond, has_beyond, is_former, level, levels, part, part_of, sets, sets_at, sets_in_use, spilling,
    unknown,
};
use lb_common::flow::{CLAIMED, FlowKey, LIVE, Set, Slot, UDP, WAYS, home, prefers_second};
use lb_common::hash::slot_hash;
use thiserror::Error;

use extent::Extent;
use memory::Memory;
use slot::Layout;
pub use slot::key;

/// All sets that the key may be in have no free slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the flow table has no room for this flow")]
pub struct Full;

/// The flow table of one family.
pub struct FlowTable<A> {
    memory: Memory,
    extent: Extent,
    /// Sets of the first part.
    base: u32,
    /// How often that doubles, until it is the whole table.
    levels: u32,
    seed: u64,
    family: PhantomData<fn() -> A>,
}

impl<A: Address> FlowTable<A> {
    /// Maps the memory of a map of `sets` sets, and of the one with its extent. `seed` is that of the program.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn map(map: BorrowedFd<'_>, extents: BorrowedFd<'_>, sets: u32, seed: u64) -> io::Result<Self> {
        let memory = Memory::map(map, sets as usize * size_of::<Set<A>>())?;
        let (extent, levels) = (Extent::map(extents, A::IS_V4)?, levels(sets));
        Ok(Self { memory, extent, base: sets >> levels, levels, seed, family: PhantomData })
    }

    /// The word of a table that has flows is gone: they may be anywhere.
    pub(super) fn lose_extent(&self) {
        self.extent.update(|_| unknown(self.levels));
    }

    /// Slots there are, free ones included.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.slots_of(self.levels)
    }

    /// Slots of the part that is in use; of the whole table while halves are beyond it.
    #[must_use]
    pub fn slots_in_use(&self) -> u32 {
        sets_in_use(self.extent.load(), self.base, self.levels) * WAYS
    }

    /// Slots of the part at this level.
    const fn slots_of(&self, level: u32) -> u64 {
        ((self.base as u64) << level) * WAYS as u64
    }

    /// Number of the slot that holds the half of this key.
    #[must_use]
    pub fn find(&self, key: &FlowKey<A>) -> Option<u32> {
        let (hash, extent) = (slot_hash(key, self.seed), self.extent.load());
        self.find_in(key, hash, sets(hash, self.base, part(extent))).or_else(|| {
            // In the order of the program: of two there is only one that it finds.
            let mut elsewhere = (0..self.levels).rev().flat_map(|level| {
                let former = is_former(extent, level).then_some(part_of(level));
                former.into_iter().chain(has_beyond(extent, level + 1).then_some(beyond(level + 1)))
            });
            elsewhere.find_map(|at| self.find_in(key, hash, sets_at(hash, self.base, at)))
        })
    }

    fn find_in(&self, key: &FlowKey<A>, hash: u64, sets: [u32; 2]) -> Option<u32> {
        let wanted = LIVE | if key.protocol == slot::PROTOCOL_UDP { UDP } else { 0 };
        sets.into_iter().flat_map(|set| ways(set, hash)).find(|number| {
            let Some(words) = self.words(*number) else {
                return false;
            };
            words[Layout::<A>::STATE].load(Acquire) & (LIVE | UDP) == wanted && slot::holds(words, key)
        })
    }

    /// Whether a look for the half in this slot leads to it, and not to another one of the same key.
    pub(super) fn is_found(&self, number: u32, half: &Slot<A>) -> bool {
        self.find(&key(half)).is_none_or(|found| found == number)
    }

    /// The half in a slot, if it is live.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Slot<A>> {
        self.words(number).and_then(slot::read)
    }

    /// Stores a half that is live, and returns the number of its slot.
    ///
    /// # Errors
    /// No slot is free for it.
    pub fn insert(&self, half: &Slot<A>) -> Result<u32, Full> {
        let (hash, extent) = (slot_hash(&key(half), self.seed), self.extent.load());
        let spill = |level| {
            // As in the program: first it is said where to look.
            self.extent.update(|word| word | spilling(level));
            self.insert_in(half, hash, sets_at(hash, self.base, beyond(level)))
        };
        let in_place = self.insert_in(half, hash, sets(hash, self.base, part(extent)));
        in_place.or_else(|| (level(extent) + 1..=self.levels).rev().find_map(spill)).ok_or(Full)
    }

    fn insert_in(&self, half: &Slot<A>, hash: u64, [first, second]: [u32; 2]) -> Option<u32> {
        let order = if prefers_second(self.in_use(first), self.in_use(second)) {
            [second, first]
        } else {
            [first, second]
        };
        self.store(half, order.into_iter().flat_map(|set| ways(set, hash)))
    }

    /// Stores a half in the first of these slots that is free.
    fn store(&self, half: &Slot<A>, numbers: impl Iterator<Item = u32>) -> Option<u32> {
        for number in numbers {
            let Some(words) = self.words(number) else {
                continue;
            };
            let state = &words[Layout::<A>::STATE];
            if state.load(Relaxed) == 0 && state.compare_exchange(0, CLAIMED, Acquire, Relaxed).is_ok() {
                slot::fill(words, half);
                state.swap(half.state, AcqRel);
                return Some(number);
            }
        }
        None
    }

    /// Slots of a set that are not free.
    fn in_use(&self, set: u32) -> u32 {
        let words = (0..WAYS).filter_map(|way| self.words(set * WAYS + way));
        words.map(|words| u32::from(words[Layout::<A>::STATE].load(Relaxed) != 0)).sum()
    }

    /// Takes a half out of use; its slot is to be freed after a grace period. `false`: it was not live.
    pub fn kill(&self, number: u32) -> bool {
        self.words(number).is_some_and(|words| words[Layout::<A>::STATE].fetch_and(!LIVE, AcqRel) & LIVE != 0)
    }

    /// Makes a slot free. It was dead before the last grace period began, and is left alone if it is in use. A free slot is
    /// all zeros: the program claims one by its state and its ports in one word.
    pub fn free(&mut self, number: u32) {
        let Some(words) = self.words(number) else {
            return;
        };
        let state = words[Layout::<A>::STATE].load(Acquire);
        if is_dead(state) {
            slot::clear::<A>(words);
            words[Layout::<A>::STATE].store(0, Release);
        }
    }

    /// Makes a slot free that was claimed, and never filled, by somebody who is no more.
    pub(super) fn free_claimed(&mut self, number: u32) {
        if let Some(words) = self.words(number)
            && words[Layout::<A>::STATE].load(Acquire) == CLAIMED
        {
            slot::clear::<A>(words);
            words[Layout::<A>::STATE].store(0, Release);
        }
    }

    /// Slots that are not free, in the order of memory.
    pub(super) fn used(&self) -> impl Iterator<Item = Used<'_, A>> {
        let words = self.memory.words().chunks_exact(Layout::<A>::WORDS);
        (0..self.slots_in_use()).zip(words).filter_map(|(number, words)| {
            let state = words[Layout::<A>::STATE].load(Acquire);
            (state != 0).then_some(Used { number, state, words, family: PhantomData })
        })
    }

    /// Halves that are live, in the order of memory.
    pub fn live(&self) -> impl Iterator<Item = (u32, Slot<A>)> {
        self.used().filter_map(|used| Some((used.number, slot::read(used.words)?)))
    }

    /// Has the processor fetch what [`Self::find`] looks at first.
    pub(super) fn touch(&self, key: &FlowKey<A>) {
        let hash = slot_hash(key, self.seed);
        let [first, _] = sets(hash, self.base, part(self.extent.load()));
        if let Some(words) = self.words(first * WAYS + home(hash)) {
            memory::prefetch(&words[Layout::<A>::STATE]);
        }
    }

    fn words(&self, number: u32) -> Option<&[AtomicU32]> {
        let first = number as usize * Layout::<A>::WORDS;
        self.memory.words().get(first..first + Layout::<A>::WORDS)
    }
}

/// Numbers of the slots of a set, in the order of search.
fn ways(set: u32, hash: u64) -> impl Iterator<Item = u32> {
    (0..WAYS).map(move |step| set * WAYS + (home(hash) ^ step))
}

/// A slot that is not free.
pub(super) struct Used<'m, A> {
    pub(super) number: u32,
    pub(super) state: u32,
    words: &'m [AtomicU32],
    family: PhantomData<A>,
}

impl<A: Address> Used<'_, A> {
    pub(super) fn last_seen(&self) -> u32 {
        self.words[Layout::<A>::LAST_SEEN].load(Relaxed)
    }

    pub(super) fn place(&self) -> u32 {
        self.words[Layout::<A>::PLACE].load(Relaxed)
    }
}

/// Killed and not yet freed.
pub(super) const fn is_dead(state: u32) -> bool {
    state != 0 && state != CLAIMED && state & LIVE == 0
}
