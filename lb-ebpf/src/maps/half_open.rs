//! Flows that have shown one packet of their client: what a flood can fill. The oldest make room.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use lb_common::flow::{FlowKey, FlowValue};
use lb_common::limits;

#[btf_map(name = "ek_half_open")]
static HALF_OPEN: LruHashMap<FlowKey, FlowValue, { limits::HALF_OPEN as usize }> = LruHashMap::new();

/// A copy: the entry may be reused for another flow at any time.
#[inline(always)]
pub(crate) fn get(key: &FlowKey) -> Option<FlowValue> {
    // SAFETY: copied at once.
    unsafe { HALF_OPEN.get(key).copied() }
}

#[inline(always)]
pub(crate) fn insert(key: &FlowKey, value: &FlowValue) -> Result<(), i32> {
    HALF_OPEN.insert(key, value, u64::from(BPF_ANY))
}

#[inline(always)]
pub(crate) fn remove(key: &FlowKey) {
    // Gone already is as good as removed.
    let _ = HALF_OPEN.remove(key);
}
