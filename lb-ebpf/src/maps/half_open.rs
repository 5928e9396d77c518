//! Flows that have shown one packet of their client and must be remembered: what a flood can fill. The oldest make room.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use lb_common::addr::Address;
use lb_common::flow::{FlowKey, HalfOpen, MappedKey};
use lb_common::limits;

use super::scratch;
use crate::atomic::Word;

#[btf_map(name = "ek_half_open")]
static HALF_OPEN: LruHashMap<MappedKey, HalfOpen, { limits::HALF_OPEN as usize }> = LruHashMap::new();

/// A half-open flow. The entry may be reused for another flow at any time; then what is read is a mixture of the two, and
/// at worst one packet goes where it is not expected.
#[inline(always)]
pub(crate) fn get<A: Address>(key: &FlowKey<A>) -> Option<&'static HalfOpen> {
    let scratch = scratch::get()?;
    // SAFETY: the record is this CPU's own; an element stays readable until this program ends.
    unsafe {
        (*scratch).half_key = key.mapped();
        let key = &(*scratch).half_key;
        HALF_OPEN.get(key)
    }
}

/// Stores one. `false` if there is no room, or, for one that must be `new`, if the key is there already: of two
/// CPUs, one gets it.
#[inline(always)]
pub(crate) fn insert<A: Address>(key: &FlowKey<A>, half: &HalfOpen, new: bool) -> bool {
    let Some(scratch) = scratch::get() else {
        return false;
    };
    let flags = if new { BPF_NOEXIST } else { BPF_ANY };
    // SAFETY: the record is this CPU's own.
    unsafe {
        (*scratch).half_key = key.mapped();
        let key = &(*scratch).half_key;
        HALF_OPEN.insert(key, half, u64::from(flags)).is_ok()
    }
}

/// Puts the half-open flow in the scratch record in the place of one that is over, under the key that was looked for last. Of
/// CPUs that try at once, one does it: the one that changes its time.
#[inline(always)]
pub(crate) fn take_over(is_over: impl FnOnce(&HalfOpen) -> bool) -> bool {
    let Some(scratch) = scratch::get() else {
        return false;
    };
    // SAFETY: the record is this CPU's own; an element stays readable and writable until this program ends, and its time and
    // service are a word of it that is aligned.
    unsafe {
        let (key, half) = (&(*scratch).half_key, &(*scratch).half);
        let Some(there) = HALF_OPEN.get(key) else {
            return false;
        };
        let old = words(there.since, there.service);
        let since = Word::new(core::ptr::from_ref(there).cast::<u64>().cast_mut().wrapping_add(SINCE));
        is_over(there)
            && since.replace(old, words(half.since, half.service))
            && HALF_OPEN.insert(key, half, u64::from(BPF_ANY)).is_ok()
    }
}

/// Where, in double words, the time begins, which the service follows.
const SINCE: usize = core::mem::offset_of!(HalfOpen, since) / 8;
const _: () = assert!(SINCE * 8 == core::mem::offset_of!(HalfOpen, since));

/// Two words as they lie beside each other in memory.
#[inline(always)]
const fn words(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "big") {
        (first as u64) << 32 | second as u64
    } else {
        (second as u64) << 32 | first as u64
    }
}

#[inline(always)]
pub(crate) fn remove<A: Address>(key: &FlowKey<A>) {
    if let Some(scratch) = scratch::get() {
        // SAFETY: the record is this CPU's own. Gone already is as good as removed.
        unsafe {
            (*scratch).half_key = key.mapped();
            let key = &(*scratch).half_key;
            let _ = HALF_OPEN.remove(key);
        }
    }
}
