//! Outer destinations that `decap` removes the tunnel header for.

use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;

#[btf_map(name = "ek_decap")]
static DESTINATIONS: HashMap<Addr, u32, 256> = HashMap::new();

#[inline(always)]
pub(crate) fn contains(address: u32) -> bool {
    // SAFETY: the value is not read.
    unsafe { DESTINATIONS.get(Addr::from_v4(address)).is_some() }
}
