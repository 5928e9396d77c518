//! Packets by reason, by CPU.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_common::reason::Reason;

#[btf_map(name = "ek_reasons")]
static REASONS: PerCpuArray<u64, { Reason::COUNT as usize }> = PerCpuArray::new();

#[inline(always)]
pub(crate) fn count(reason: u32) {
    if let Some(packets) = REASONS.get_ptr_mut(reason) {
        // SAFETY: a per-CPU record, and XDP does not interrupt itself on one CPU.
        unsafe { *packets += 1 };
    }
}
