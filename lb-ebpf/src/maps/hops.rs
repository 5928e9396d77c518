//! Next hops that replies to clients leave by, by number: a slot of the flow table has room for the number only. The program
//! enters the ones it meets; user space frees those that no flow uses.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::backend::{HOP_CLAIMED, HOP_LIVE, Hop, NextHop};
use lb_common::limits;

use super::MAPPED;
use crate::atomic::Word;
use crate::globals;

#[btf_map(name = "ek_hops")]
static HOPS: Array<Hop, { limits::HOPS as usize }, MAPPED> = Array::new();

/// No next hop.
pub(crate) const NONE: u32 = 0;

#[inline(always)]
pub(crate) fn get(number: u32) -> Option<&'static NextHop> {
    let hop = HOPS.get(number)?;
    if number == NONE || hop.state != HOP_LIVE { None } else { Some(&hop.next) }
}

/// The number of a next hop, given in words, entered if it is new; [`NONE`] if there is no room in any of sixteen places.
#[inline(always)]
pub(crate) fn number([a, b, c, ifindex, tags]: [u32; 5], now: u32) -> u32 {
    ek_hop(u64::from(a) << 32 | u64::from(b), c, ifindex, tags, now)
}

/// Visible outside of the object, so that the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_hop(macs: u64, mac: u32, ifindex: u32, tags: u32, now: u32) -> u32 {
    let wanted = [(macs >> 32) as u32, macs as u32, mac, ifindex, tags];
    let hash = hash(wanted);
    for step in 0..globals::ways() {
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
                if words(&(*hop).next) == wanted {
                    (*hop).last_used = now;
                    return number;
                }
                continue;
            }
            if state.replace(0, HOP_CLAIMED) {
                (&raw mut (*hop).next).cast::<[u32; 5]>().write(wanted);
                (*hop).last_used = now;
                state.publish(HOP_LIVE);
                return number;
            }
        }
    }
    NONE
}

#[inline(always)]
pub(crate) fn words(next: &NextHop) -> [u32; 5] {
    // SAFETY: 20 bytes of plain integers, aligned to four.
    unsafe { *core::ptr::from_ref(next).cast::<[u32; 5]>() }
}

#[inline(always)]
fn hash(words: [u32; 5]) -> u32 {
    let mut hash = 0_u32;
    for word in words {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b1);
        hash ^= hash >> 15;
    }
    hash
}
