//! Whose turn it is, by service.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::limits;

use crate::atomic::Word;

#[btf_map(name = "ek_turns")]
static TURNS: Array<u64, { limits::SERVICES as usize }> = Array::new();

/// A number one larger each time.
#[inline(always)]
pub(crate) fn next(service: u32) -> u32 {
    TURNS.get_ptr_mut(service).map_or(0, |turn| {
        // SAFETY: an element of an array stays writable, and its word is aligned.
        unsafe { Word::new(turn) }.fetch_add(1) as u32
    })
}
