//! Sources that a service allows or denies, by longest prefix. Written by user space only.

use aya_ebpf::btf_maps::LpmTrie;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;
use lb_common::limits;
use lb_common::service::SourceKey;

#[btf_map(name = "ek_sources")]
static SOURCES: LpmTrie<SourceKey, u32, { limits::SOURCE_PREFIXES as usize }> = LpmTrie::new();

/// [`lb_common::service::SOURCE_ALLOWED`] or [`lb_common::service::SOURCE_DENIED`], or 0 for a source on no list.
#[inline(always)]
pub(crate) fn get(service: u32, address: Addr) -> u32 {
    let key = Key::new(8 * size_of::<SourceKey>() as u32, SourceKey { service, address });
    SOURCES.get(&key).copied().unwrap_or(0)
}
