//! Ports of packets that come in fragments, from their first fragment. The oldest make room.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;
use lb_common::limits;

/// What all fragments of a packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FragmentKey {
    pub(crate) source: Addr,
    pub(crate) destination: Addr,
    pub(crate) id: u32,
    pub(crate) protocol: u32,
}

/// What the first one says beyond that.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct First {
    pub(crate) ports: u32,
    /// Jiffies when it came.
    pub(crate) since: u32,
}

#[btf_map(name = "ek_fragments")]
static FRAGMENTS: LruHashMap<FragmentKey, First, { limits::FRAGMENTS as usize }> = LruHashMap::new();

#[inline(always)]
pub(crate) fn get(key: &FragmentKey) -> Option<First> {
    // SAFETY: copied at once.
    unsafe { FRAGMENTS.get(key).copied() }
}

#[inline(always)]
pub(crate) fn insert(key: &FragmentKey, first: &First) {
    // Without room the rest of the packet is lost, and sent again.
    let _ = FRAGMENTS.insert(key, first, u64::from(BPF_ANY));
}
