//! Atomic operations on words that other CPUs and user space change too. BPF has them since Linux 5.12, `core` does not offer
//! them for it, so here are the instructions themselves (Documentation/bpf/standardization/instruction-set.rst, "Atomic
//! operations"). Those that fetch are full barriers.

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
        // SAFETY: by `new`.
        unsafe { instructions::compare_and_swap(self.0, old, new) == old }
    }

    /// Writes the word after everything that was written before it.
    #[inline(always)]
    pub(crate) fn publish(self, new: u64) {
        // SAFETY: by `new`.
        unsafe { instructions::swap(self.0, new) };
    }

    #[inline(always)]
    pub(crate) fn set(self, bits: u64) {
        // SAFETY: by `new`.
        unsafe { instructions::or(self.0, bits) };
    }

    #[inline(always)]
    pub(crate) fn clear(self, bits: u64) {
        // SAFETY: by `new`.
        unsafe { instructions::and(self.0, !bits) };
    }

    #[inline(always)]
    pub(crate) fn add(self, number: u64) {
        // SAFETY: by `new`.
        unsafe { instructions::add(self.0, number) };
    }

    /// Returns what was there before.
    #[inline(always)]
    pub(crate) fn fetch_add(self, number: u64) -> u64 {
        // SAFETY: by `new`.
        unsafe { instructions::fetch_add(self.0, number) }
    }
}

/// Each takes a word that is aligned, readable and writable, and touches nothing else.
#[cfg(target_arch = "bpf")]
mod instructions {
    use core::arch::asm;

    macro_rules! instruction {
        ($name:ident, $text:literal) => {
            #[inline(always)]
            pub(super) unsafe fn $name(word: *mut u64, operand: u64) {
                // SAFETY: by the caller.
                unsafe { asm!($text, word = in(reg) word, operand = in(reg) operand) };
            }
        };
    }

    instruction!(or, "lock *(u64 *)({word} + 0) |= {operand}");
    instruction!(and, "lock *(u64 *)({word} + 0) &= {operand}");
    instruction!(add, "lock *(u64 *)({word} + 0) += {operand}");

    macro_rules! exchange {
        ($name:ident, $text:literal) => {
            #[inline(always)]
            pub(super) unsafe fn $name(word: *mut u64, operand: u64) -> u64 {
                let before: u64;
                // SAFETY: by the caller.
                unsafe { asm!($text, word = in(reg) word, operand = inout(reg) operand => before) };
                before
            }
        };
    }

    exchange!(swap, "{operand} = xchg_64({word} + 0, {operand})");
    exchange!(fetch_add, "{operand} = atomic_fetch_add((u64 *)({word} + 0), {operand})");

    #[inline(always)]
    pub(super) unsafe fn compare_and_swap(word: *mut u64, old: u64, new: u64) -> u64 {
        let found: u64;
        // SAFETY: by the caller.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({word} + 0, r0, {new})",
                word = in(reg) word,
                new = in(reg) new,
                inlateout("r0") old => found,
            );
        }
        found
    }
}

/// The same where the programs are only looked at, by clippy.
#[cfg(not(target_arch = "bpf"))]
mod instructions {
    use core::sync::atomic::AtomicU64;
    use core::sync::atomic::Ordering::SeqCst;

    macro_rules! operation {
        ($name:ident, $method:ident) => {
            #[inline(always)]
            pub(super) unsafe fn $name(word: *mut u64, operand: u64) -> u64 {
                // SAFETY: by the caller.
                unsafe { AtomicU64::from_ptr(word) }.$method(operand, SeqCst)
            }
        };
    }

    operation!(or, fetch_or);
    operation!(and, fetch_and);
    operation!(add, fetch_add);
    operation!(swap, swap);
    operation!(fetch_add, fetch_add);

    #[inline(always)]
    pub(super) unsafe fn compare_and_swap(word: *mut u64, old: u64, new: u64) -> u64 {
        // SAFETY: by the caller.
        let word = unsafe { AtomicU64::from_ptr(word) };
        word.compare_exchange(old, new, SeqCst, SeqCst).unwrap_or_else(|found| found)
    }
}
