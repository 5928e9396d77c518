//! Where packets that come in fragments go, from their first fragment. The oldest make room.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;
use lb_common::flow::HalfOpen;
use lb_common::limits;

/// What all fragments of a packet have in common (RFC 791 section 3.2; RFC 8200 section 4.5, where `protocol` is 0).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FragmentKey {
    pub(crate) source: Addr,
    pub(crate) destination: Addr,
    pub(crate) id: u32,
    pub(crate) protocol: u32,
}

/// What the first one says, and what was decided for it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct First {
    /// As among the half-open flows, but for `since`: in 2^20 nanoseconds, a little more than a millisecond each.
    pub(crate) half: HalfOpen,
    /// [`lb_common::flow::Ports::word`].
    pub(crate) ports: u32,
    /// Bytes of the packet, from where fragments are counted from, up to the end of the transport header.
    pub(crate) headers: u32,
}

#[btf_map(name = "ek_fragments")]
static FRAGMENTS: LruHashMap<FragmentKey, First, { limits::FRAGMENTS as usize }> = LruHashMap::new();

/// The entry may become another packet's at any time; then what is read is a mixture of the two, and at worst one fragment
/// goes where it is not expected.
#[inline(always)]
pub(crate) fn get(key: &FragmentKey) -> Option<&'static First> {
    // SAFETY: an element stays readable until this program ends.
    unsafe { FRAGMENTS.get(key) }
}

#[inline(always)]
pub(crate) fn insert(key: &FragmentKey, first: &First) {
    // Without room the rest of the packet is lost, and sent again.
    let _ = FRAGMENTS.insert(key, first, u64::from(BPF_ANY));
}
