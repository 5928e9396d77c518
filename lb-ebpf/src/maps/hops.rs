//! Next hops that replies to clients leave by, by number: a slot of the flow table has room for the number only. The program
//! enters the ones it meets; user space frees those that no flow uses.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::backend::{HOP_CLAIMED, HOP_LIVE, Hop, NextHop};
use lb_common::limits;

use super::MAPPED;
use crate::atomic::Word;

#[btf_map(name = "ek_hops")]
static HOPS: Array<Hop, { limits::HOPS as usize }, MAPPED> = Array::new();

/// No next hop.
pub(crate) const NONE: u32 = 0;

/// Places that are tried; beyond, packets of new routers find no way back.
const TRIES: u32 = 8;

#[inline(always)]
pub(crate) fn get(number: u32) -> Option<&'static NextHop> {
    let hop = HOPS.get(number)?;
    if number == NONE || hop.state != HOP_LIVE { None } else { Some(&hop.next) }
}

/// The number of a next hop, entered if it is new; [`NONE`] if there is no room.
#[inline(always)]
pub(crate) fn number(next: &NextHop, now: u32) -> u32 {
    let hash = hash(next);
    for step in 0..TRIES {
        let number = hash.wrapping_add(step) & (limits::HOPS - 1);
        let Some(hop) = HOPS.get_ptr_mut(number) else {
            return NONE;
        };
        if number == NONE {
            continue;
        }
        // SAFETY: an element of an array stays writable, and its words are aligned. Only whoever has claimed it fills it.
        unsafe {
            let state = Word::new(&raw mut (*hop).state);
            if state.load() == HOP_LIVE {
                if (*hop).next == *next {
                    (*hop).last_used = now;
                    return number;
                }
                continue;
            }
            if state.replace(0, HOP_CLAIMED) {
                (*hop).next = *next;
                (*hop).last_used = now;
                state.publish(HOP_LIVE);
                return number;
            }
        }
    }
    NONE
}

#[inline(always)]
fn hash(next: &NextHop) -> u32 {
    // SAFETY: 20 bytes of plain integers, aligned to four.
    let words = unsafe { *core::ptr::from_ref(next).cast::<[u32; 5]>() };
    let mut hash = 0_u32;
    for word in words {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b1);
        hash ^= hash >> 15;
    }
    hash
}
