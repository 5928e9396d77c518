//! Memory of a map, mapped into this process.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Unmapped when dropped.
pub(super) struct Memory {
    start: NonNull<AtomicU32>,
    bytes: usize,
}

// SAFETY: the memory belongs to no thread, and is reached by atomics only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` is what the map's elements take up: `array_map_mmap` in kernel/bpf/arraymap.c wants no more, rounded up
    /// to whole pages.
    pub(super) fn map(file: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel likes, touches nothing that is there.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, bytes })
    }

    pub(super) fn words(&self) -> &[AtomicU32] {
        // SAFETY: mapped for as long as `self` is, aligned to a page, and of atomics, which others may write meanwhile;
        // every bit pattern is one.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes / size_of::<AtomicU32>()) }
    }

    /// The same memory by twos; a field is reached by one or the other.
    pub(super) fn doubles(&self) -> &[AtomicU64] {
        // SAFETY: as in `words`; a page is aligned for these too.
        unsafe { slice::from_raw_parts(self.start.as_ptr().cast(), self.bytes / size_of::<AtomicU64>()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// A hint that `word` is read soon.
pub(super) fn prefetch(word: &AtomicU32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address has no effect but on caches, and every x86-64 processor has it.
        unsafe { _mm_prefetch(word.as_ptr().cast::<i8>(), _MM_HINT_T0) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}
