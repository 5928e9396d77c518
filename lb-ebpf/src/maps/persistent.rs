//! The backend that a source stays with. The oldest make room.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::service::{ClientKey, Persistent};

#[btf_map(name = "ek_persistent")]
static PERSISTENT: LruHashMap<ClientKey, Persistent, { limits::CLIENTS as usize }> = LruHashMap::new();

#[inline(always)]
pub(crate) fn get(key: &ClientKey) -> Option<Persistent> {
    // SAFETY: copied at once.
    unsafe { PERSISTENT.get(key).copied() }
}

#[inline(always)]
pub(crate) fn insert(key: &ClientKey, value: &Persistent) {
    // Without room the source is scheduled anew next time.
    let _ = PERSISTENT.insert(key, value, u64::from(BPF_ANY));
}
