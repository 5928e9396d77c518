//! Next hops to clients, by number: the program adds them, and they are freed here when no flow has them any more.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use lb_common::backend::{HOP_CLAIMED, HOP_LIVE, Hop};
use lb_common::limits;

use super::memory::Memory;

const WORDS: usize = size_of::<Hop>() / 4;
const LAST_USED: usize = offset_of!(Hop, last_used) / 4;
/// Words before the state.
const REST: usize = offset_of!(Hop, state) / 4;
const DOUBLES: usize = size_of::<Hop>() / 8;
const STATE: usize = offset_of!(Hop, state) / 8;

/// The map of return hops. Their states are reached as the double words they are, the rest as words.
pub struct Hops(Memory);

impl Hops {
    /// # Errors
    /// The kernel refused.
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        Memory::map(map, limits::HOPS as usize * size_of::<Hop>()).map(Self)
    }

    /// Numbers of the hops in use, each with the jiffies when a flow was last given it.
    pub fn live(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..limits::HOPS).filter_map(|number| {
            let (state, words) = self.hop(number)?;
            (state.load(Acquire) == HOP_LIVE).then_some((number, words[LAST_USED].load(Relaxed)))
        })
    }

    /// Takes a hop out of use for a while, in which no flow is given it: a claimed hop is nobody's.
    pub(in crate::dataplane) fn withdraw(&self, number: u32) -> bool {
        self.hop(number)
            .is_some_and(|(state, _)| state.compare_exchange(HOP_LIVE, HOP_CLAIMED, AcqRel, Relaxed).is_ok())
    }

    /// A grace period after [`Self::withdraw`]: frees the hop, or puts it back in use if a program gave it to a flow after
    /// `last_used`, when it was thought to be no flow's. Whether it was freed.
    pub(in crate::dataplane) fn finish(&self, number: u32, last_used: u32) -> bool {
        let Some((state, words)) = self.hop(number) else {
            return false;
        };
        if words[LAST_USED].load(Relaxed) != last_used {
            state.store(HOP_LIVE, Release);
            return false;
        }
        for word in words {
            word.store(0, Relaxed);
        }
        state.store(0, Release);
        true
    }

    /// The state of a hop, and what is before it.
    fn hop(&self, number: u32) -> Option<(&AtomicU64, &[AtomicU32])> {
        let number = number as usize;
        let state = self.0.doubles().get(number * DOUBLES + STATE)?;
        Some((state, self.0.words().get(number * WORDS..number * WORDS + REST)?))
    }

    #[cfg(test)]
    pub(in crate::dataplane) fn put(&self, number: u32, last_used: u32) {
        let (state, words) = self.hop(number).unwrap();
        words[0].store(number, Relaxed);
        words[LAST_USED].store(last_used, Relaxed);
        state.store(HOP_LIVE, Release);
    }

    #[cfg(test)]
    pub(in crate::dataplane) fn use_at(&self, number: u32, jiffies: u32) {
        self.hop(number).unwrap().1[LAST_USED].store(jiffies, Relaxed);
    }
}
