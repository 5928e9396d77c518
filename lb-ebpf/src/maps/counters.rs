//! What was forwarded for each backend, by CPU: no two write one record.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_common::counters::BackendCounters;
use lb_common::limits;

#[btf_map(name = "ek_counters")]
static COUNTERS: PerCpuArray<BackendCounters, { limits::BACKENDS as usize }> = PerCpuArray::new();

#[inline(always)]
pub(crate) fn packet(backend: u32, bytes: usize) {
    if let Some(counters) = COUNTERS.get_ptr_mut(backend) {
        // SAFETY: a per-CPU record, and XDP does not interrupt itself on one CPU.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += bytes as u64;
        }
    }
}

#[inline(always)]
pub(crate) fn new_flow(backend: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(backend) {
        // SAFETY: as above.
        unsafe { (*counters).new_flows += 1 };
    }
}
