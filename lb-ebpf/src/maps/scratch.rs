//! Room for keys and values that are too large for the stack, which has 512 bytes for all functions on the way.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_common::flow::{HalfOpen, MappedKey};

#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) key: MappedKey,
    pub(crate) half: HalfOpen,
}

#[btf_map(name = "ek_scratch")]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// A record of this CPU's own; XDP does not interrupt itself on one CPU.
#[inline(always)]
pub(crate) fn get() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}
