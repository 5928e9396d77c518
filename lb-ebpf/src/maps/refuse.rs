//! Addresses that are held and not accepted for, and how many packets were dropped for that.

use aya_ebpf::btf_maps::{HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;
use lb_common::limits;

/// With the counter of each.
#[btf_map(name = "ek_refused")]
static ADDRESSES: HashMap<Addr, u32, { limits::REFUSED as usize }> = HashMap::new();

#[btf_map(name = "ek_refusals")]
static PACKETS: PerCpuArray<u64, { limits::REFUSAL_COUNTERS as usize }> = PerCpuArray::new();

/// Of the address, if it is listed.
#[inline(always)]
pub(crate) fn counter(destination: Addr) -> Option<u32> {
    // SAFETY: user space replaces whole entries, and a word is read at once.
    unsafe { ADDRESSES.get(destination).copied() }
}

#[inline(always)]
pub(crate) fn count(counter: u32) {
    if let Some(packets) = PACKETS.get_ptr_mut(counter) {
        // SAFETY: a per-CPU record, and packets that come in do not interrupt each other on one CPU.
        unsafe { *packets += 1 };
    }
}
