//! New flows by source, for services that limit them. The oldest make room.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::service::{Bucket, ClientKey};

#[btf_map(name = "ek_clients")]
static CLIENTS: LruHashMap<ClientKey, Bucket, { limits::CLIENTS as usize }> = LruHashMap::new();

#[inline(always)]
pub(crate) fn get(key: &ClientKey) -> Option<*mut Bucket> {
    CLIENTS.get_ptr_mut(key)
}

#[inline(always)]
pub(crate) fn insert(key: &ClientKey, bucket: &Bucket) {
    // Without room the source is not limited this time.
    let _ = CLIENTS.insert(key, bucket, u64::from(BPF_ANY));
}
