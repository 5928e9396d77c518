//! How loaded backends are, for schedulers that count and for limits.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::backend::{Backend, Load};
use lb_common::limits;

use super::MAPPED;
use crate::atomic::Word;

#[btf_map(name = "ek_load")]
static LOAD: Array<Load, { limits::BACKENDS as usize }, MAPPED> = Array::new();

/// Where `recent` is in the word that it makes with `counted`. What overflows it on a machine of the other byte order, where it
/// is the lower half, would be a count of four billion.
const RECENT_SHIFT: u32 = if cfg!(target_endian = "big") { 0 } else { 32 };

/// Active flows.
#[inline(always)]
pub(crate) fn active(backend: u32) -> u32 {
    LOAD.get_ptr_mut(backend).map_or(0, |load| {
        // SAFETY: an element of an array stays readable; both words are read whole.
        let active = unsafe { (*load).counted.wrapping_add((*load).recent) };
        // A flow that ended after it was counted may be taken away before the next count.
        if (active as i32) < 0 { 0 } else { active }
    })
}

/// One flow more, or with `-1` one less.
#[inline(always)]
pub(crate) fn add(backend: u32, flows: i32) {
    if let Some(load) = LOAD.get_ptr_mut(backend) {
        // SAFETY: an element of an array stays writable, and its first two words are one that is aligned: BPF has atomic
        // operations on 64 bits.
        let both = unsafe { Word::new(load.cast()) };
        both.add(u64::from(flows as u32) << RECENT_SHIFT);
    }
}

/// Whether the backend has as many flows as it may: it is full from its high mark until it is down to its low one.
#[inline(always)]
pub(crate) fn is_full(number: u32, backend: &Backend) -> bool {
    if backend.high == 0 {
        return false;
    }
    let active = active(number);
    let Some(load) = LOAD.get_ptr_mut(number) else {
        return false;
    };
    // SAFETY: an element of an array stays writable. Two CPUs may write at once: each what it saw, within a flow or so.
    unsafe {
        if active >= backend.high {
            (*load).full = 1;
        } else if active < backend.low {
            (*load).full = 0;
        }
        (*load).full != 0
    }
}
