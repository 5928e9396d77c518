//! Outer destinations that `decap` removes tunnel headers for, and what it did.

use aya_ebpf::btf_maps::{HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;
use lb_common::decap::Outcome;
use lb_common::limits;

#[btf_map(name = "ek_decap")]
static DESTINATIONS: HashMap<Addr, u32, { limits::DECAP as usize }> = HashMap::new();

#[btf_map(name = "ek_decap_done")]
static OUTCOMES: PerCpuArray<u64, { Outcome::COUNT as usize }> = PerCpuArray::new();

#[inline(always)]
pub(crate) fn contains(destination: Addr) -> bool {
    // SAFETY: the value is not read.
    unsafe { DESTINATIONS.get(destination).is_some() }
}

#[inline(always)]
pub(crate) fn count(outcome: Outcome) {
    if let Some(packets) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: a per-CPU record, and XDP does not interrupt itself on one CPU.
        unsafe { *packets += 1 };
    }
}
