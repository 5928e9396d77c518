//! Source addresses for `fullnat`. Written by user space only.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::service::Sources;

#[btf_map(name = "ek_pools")]
static POOLS: Array<Sources, { limits::SERVICES as usize }> = Array::new();

#[inline(always)]
pub(crate) fn get(pool: u32) -> Option<&'static Sources> {
    POOLS.get(pool)
}
