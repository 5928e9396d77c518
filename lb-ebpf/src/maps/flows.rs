//! The flow table: a hash without eviction. Entries go in and out in pairs, and user space lets them expire, so no flood
//! takes an established flow away and the two halves of a `nat` flow can't lose each other.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::btf_map;
use lb_common::flow::{FlowKey, FlowValue};
use lb_common::limits;

#[btf_map(name = "ek_flows")]
static FLOWS: HashMap<FlowKey, FlowValue, { limits::FLOWS as usize }> = HashMap::new();

/// The entry itself, not a copy. CPUs write `last_seen`, `phase` and `return_hop` in place without a lock: each is
/// written whole or repairs itself by the flow's next packet. Of these only `return_hop` says where packets go: the way
/// back to the client, which the client's next packet repairs.
#[inline(always)]
pub(crate) fn get(key: &FlowKey) -> Option<*mut FlowValue> {
    FLOWS.get_ptr_mut(key)
}

/// `Err` if the table is full.
#[inline(always)]
pub(crate) fn insert(key: &FlowKey, value: &FlowValue) -> Result<(), i32> {
    FLOWS.insert(key, value, u64::from(BPF_ANY))
}

#[inline(always)]
pub(crate) fn remove(key: &FlowKey) {
    // Gone already is as good as removed.
    let _ = FLOWS.remove(key);
}
