//! Next hops to clients, by number: the program adds them, and they are freed here when no flow has them any more.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use lb_common::backend::{HOP_CLAIMED, HOP_LIVE, Hop};
use lb_common::limits;
use zerocopy::transmute;

use super::memory::Memory;

/// A hop is so many double words.
const DOUBLES: usize = size_of::<Hop>() / 8;
const STATE: usize = offset_of!(Hop, state) / 8;
/// `last_used` is the second half of this one, beside the tags.
const LAST_USED: usize = offset_of!(Hop, last_used) / 8;
const _: () = assert!(offset_of!(Hop, last_used) % 8 == 4 && offset_of!(Hop, state) % 8 == 0);

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
        let hops = (0..).zip(self.0.doubles().chunks_exact(DOUBLES));
        let live = hops.filter(|(_, doubles)| doubles[STATE].load(Acquire) == HOP_LIVE);
        live.map(|(number, doubles)| (number, last_used(doubles)))
    }

    /// Takes a hop out of use for a while, in which no flow is given it: a claimed hop is nobody's.
    pub(in crate::dataplane) fn withdraw(&self, number: u32) -> bool {
        self.doubles(number).is_some_and(|doubles| {
            doubles[STATE].compare_exchange(HOP_LIVE, HOP_CLAIMED, AcqRel, Relaxed).is_ok()
        })
    }

    /// A grace period after [`Self::withdraw`]: frees the hop, or puts it back in use if a program gave it to a flow after
    /// `last_used`, when it was thought to be no flow's. Whether it was freed.
    pub(in crate::dataplane) fn finish(&self, number: u32, last_used: u32) -> bool {
        let Some(doubles) = self.doubles(number) else {
            return false;
        };
        if self::last_used(doubles) != last_used {
            doubles[STATE].store(HOP_LIVE, Release);
            return false;
        }
        for (at, double) in doubles.iter().enumerate() {
            if at != STATE {
                double.store(0, Relaxed);
            }
        }
        doubles[STATE].store(0, Release);
        true
    }

    fn doubles(&self, number: u32) -> Option<&[AtomicU64]> {
        let first = number as usize * DOUBLES;
        self.0.doubles().get(first..first + DOUBLES)
    }

    #[cfg(test)]
    pub(in crate::dataplane) fn put(&self, number: u32, last_used: u32) {
        let doubles = self.doubles(number).unwrap();
        doubles[0].store(u64::from(number), Relaxed);
        doubles[LAST_USED].store(transmute!([0, last_used]), Relaxed);
        doubles[STATE].store(HOP_LIVE, Release);
    }

    #[cfg(test)]
    pub(in crate::dataplane) fn use_at(&self, number: u32, jiffies: u32) {
        self.doubles(number).unwrap()[LAST_USED].store(transmute!([0, jiffies]), Relaxed);
    }
}

fn last_used(doubles: &[AtomicU64]) -> u32 {
    let [_, last_used]: [u32; 2] = transmute!(doubles[LAST_USED].load(Relaxed));
    last_used
}
