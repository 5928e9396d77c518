//! Backends by the server id in QUIC connection ids. Written by user space only.

use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::service::QuicKey;

#[btf_map(name = "ek_quic")]
static BACKENDS: HashMap<QuicKey, u32, { limits::QUIC_IDS as usize }> = HashMap::new();

#[inline(always)]
pub(crate) fn get(key: &QuicKey) -> Option<u32> {
    // SAFETY: copied at once.
    unsafe { BACKENDS.get(key).copied() }
}
