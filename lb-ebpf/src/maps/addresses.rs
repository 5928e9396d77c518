//! Addresses of services, which answer ping. Written by user space only.

use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;
use lb_common::limits;

#[btf_map(name = "ek_addresses")]
static ADDRESSES: HashMap<Addr, u32, { 2 * limits::LISTENERS as usize }> = HashMap::new();

#[inline(always)]
pub(crate) fn contains(address: Addr) -> bool {
    // SAFETY: the value is not read.
    unsafe { ADDRESSES.get(address).is_some() }
}
