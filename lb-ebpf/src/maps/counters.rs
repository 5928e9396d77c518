//! What was forwarded for each backend, by CPU: no two write one record.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_common::counters::BackendCounters;
use lb_common::limits;

#[btf_map(name = "ek_counters")]
static COUNTERS: PerCpuArray<BackendCounters, { limits::BACKENDS as usize }> = PerCpuArray::new();

/// A packet of a client.
#[inline(always)]
pub(crate) fn packet(backend: u32, bytes: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(backend) {
        // SAFETY: a per-CPU record, and XDP does not interrupt itself on one CPU.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += u64::from(bytes);
        }
    }
}

/// A packet of the backend.
#[inline(always)]
pub(crate) fn reply(backend: u32, bytes: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(backend) {
        // SAFETY: as above.
        unsafe {
            (*counters).reply_packets += 1;
            (*counters).reply_bytes += u64::from(bytes);
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
