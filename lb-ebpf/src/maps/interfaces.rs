//! Interfaces that packets may leave by: those of the configuration and no other.

use aya_ebpf::btf_maps::DevMapHash;
use aya_ebpf::macros::btf_map;
use lb_common::limits;

#[btf_map(name = "ek_interfaces")]
static INTERFACES: DevMapHash<{ limits::INTERFACES as usize }> = DevMapHash::new();

/// `XDP_REDIRECT`, or `None` if the interface is not in the map.
#[inline(always)]
pub(crate) fn redirect(ifindex: u32) -> Option<u32> {
    INTERFACES.redirect(ifindex, 0).ok()
}
