//! Next hops to clients, by number: the program adds them, and they are freed here when no flow has them any more.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use lb_common::backend::{HOP_CLAIMED, HOP_LIVE, Hop};
use lb_common::limits;

use super::memory::Memory;

const WORDS: usize = size_of::<Hop>() / 4;
const STATE: usize = offset_of!(Hop, state) / 4;
const LAST_USED: usize = offset_of!(Hop, last_used) / 4;

/// The map of return hops.
pub struct Hops(Memory);

impl Hops {
    /// # Errors
    /// The kernel refused.
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        Memory::map(map, limits::HOPS as usize * size_of::<Hop>()).map(Self)
    }

    /// Numbers of the hops in use, each with the jiffies when a flow was last given it.
    pub fn live(&self) -> impl Iterator<Item = (u32, u32)> {
        let hops = (0..).zip(self.0.words().chunks_exact(WORDS));
        let live = hops.filter(|(_, words)| words[STATE].load(Acquire) == HOP_LIVE);
        live.map(|(number, words)| (number, words[LAST_USED].load(Relaxed)))
    }

    /// Takes a hop out of use for a while, in which no flow is given it: a claimed hop is nobody's.
    pub(in crate::dataplane) fn withdraw(&self, number: u32) -> bool {
        self.words(number).is_some_and(|words| {
            words[STATE].compare_exchange(HOP_LIVE, HOP_CLAIMED, AcqRel, Relaxed).is_ok()
        })
    }

    /// A grace period after [`Self::withdraw`]: frees the hop, or puts it back in use if a program gave it to a flow after
    /// `last_used`, when it was thought to be no flow's. Whether it was freed.
    pub(in crate::dataplane) fn finish(&self, number: u32, last_used: u32) -> bool {
        let Some(words) = self.words(number) else {
            return false;
        };
        if words[LAST_USED].load(Relaxed) != last_used {
            words[STATE].store(HOP_LIVE, Release);
            return false;
        }
        for (at, word) in words.iter().enumerate() {
            if at != STATE {
                word.store(0, Relaxed);
            }
        }
        words[STATE].store(0, Release);
        true
    }

    fn words(&self, number: u32) -> Option<&[AtomicU32]> {
        let first = number as usize * WORDS;
        self.0.words().get(first..first + WORDS)
    }

    #[cfg(test)]
    pub(in crate::dataplane) fn put(&self, number: u32, last_used: u32) {
        let words = self.words(number).unwrap();
        words[0].store(number, Relaxed);
        words[LAST_USED].store(last_used, Relaxed);
        words[STATE].store(HOP_LIVE, Release);
    }

    #[cfg(test)]
    pub(in crate::dataplane) fn use_at(&self, number: u32, jiffies: u32) {
        self.words(number).unwrap()[LAST_USED].store(jiffies, Relaxed);
    }
}
