//! The word that says how much of a table is in use.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use lb_common::extent::{SPILLED, settled};

use super::memory::Memory;

/// Words of the map, one for each table.
const WORDS: usize = 2;

pub(super) struct Extent {
    memory: Memory,
    number: usize,
}

impl Extent {
    pub(super) fn map(map: BorrowedFd<'_>, is_v4: bool) -> io::Result<Self> {
        let memory = Memory::map(map, WORDS * size_of::<AtomicU64>())?;
        Ok(Self { memory, number: usize::from(!is_v4) })
    }

    pub(super) fn load(&self) -> u64 {
        self.word().load(Acquire)
    }

    /// Returns what it is then.
    pub(super) fn update(&self, change: impl Fn(u64) -> u64) -> u64 {
        let mut before = self.load();
        loop {
            let after = change(before);
            match self.word().compare_exchange_weak(before, after, AcqRel, Acquire) {
                Ok(_) => return after,
                Err(found) => before = found,
            }
        }
    }

    /// Nothing is elsewhere any more, unless a half spilled after `word`, which says of none, was written.
    pub(super) fn settle(&self, word: u64) {
        debug_assert!(word & SPILLED == 0, "a spill after it would not show");
        let _ = self.word().compare_exchange(word, settled(word), AcqRel, Relaxed);
    }

    fn word(&self) -> &AtomicU64 {
        &self.memory.doubles()[self.number]
    }
}
