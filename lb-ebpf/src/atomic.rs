//! Atomic operations on words that other CPUs and user space change too. BPF has them since Linux 5.12, `core` does not offer
//! them for it, so here are the instructions themselves (Documentation/bpf/standardization/instruction-set.rst, "Atomic
//! operations"). Those that fetch are full barriers.

use core::arch::asm;

/// A word in a map.
#[derive(Clone, Copy)]
pub(crate) struct Word(*mut u64);

impl Word {
    /// # Safety
    /// `word` is aligned, and stays readable and writable until this program ends.
    #[inline(always)]
    pub(crate) const unsafe fn new(word: *mut u64) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub(crate) fn load(self) -> u64 {
        // SAFETY: by `new`.
        unsafe { self.0.read_volatile() }
    }

    /// Puts `new` in the place of `old`, and says whether it was `old`.
    #[inline(always)]
    pub(crate) fn replace(self, old: u64, new: u64) -> bool {
        let found: u64;
        // SAFETY: by `new`; the instruction touches that word only.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({word} + 0, r0, {new})",
                word = in(reg) self.0,
                new = in(reg) new,
                inlateout("r0") old => found,
            );
        }
        found == old
    }

    /// Writes the word after everything that was written before it.
    #[inline(always)]
    pub(crate) fn publish(self, new: u64) {
        // SAFETY: as above.
        unsafe {
            asm!("{new} = xchg_64({word} + 0, {new})", word = in(reg) self.0, new = inout(reg) new => _);
        }
    }

    #[inline(always)]
    pub(crate) fn set(self, bits: u64) {
        // SAFETY: as above.
        unsafe { asm!("lock *(u64 *)({word} + 0) |= {bits}", word = in(reg) self.0, bits = in(reg) bits) };
    }

    #[inline(always)]
    pub(crate) fn clear(self, bits: u64) {
        // SAFETY: as above.
        unsafe { asm!("lock *(u64 *)({word} + 0) &= {bits}", word = in(reg) self.0, bits = in(reg) !bits) };
    }

    #[inline(always)]
    pub(crate) fn add(self, number: u64) {
        // SAFETY: as above.
        unsafe {
            asm!("lock *(u64 *)({word} + 0) += {number}", word = in(reg) self.0, number = in(reg) number)
        };
    }

    /// Returns what was there before.
    #[inline(always)]
    pub(crate) fn fetch_add(self, number: u64) -> u64 {
        let before: u64;
        // SAFETY: as above.
        unsafe {
            asm!(
                "{number} = atomic_fetch_add((u64 *)({word} + 0), {number})",
                word = in(reg) self.0,
                number = inout(reg) number => before,
            );
        }
        before
    }
}
