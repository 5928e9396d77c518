//! MAC addresses of this node. Written by user space only.

use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::station::Station;

#[btf_map(name = "ek_stations")]
static STATIONS: HashMap<Station, u32, { limits::STATIONS as usize }> = HashMap::new();

#[inline(always)]
pub(crate) fn contains(ifindex: u32, address: [u8; 6]) -> bool {
    // SAFETY: the value is not read.
    unsafe { STATIONS.get(Station { ifindex, address, zero: 0 }).is_some() }
}
