//! Tables of backend numbers, built by user space, put in place whole by one pointer.
//!
//! Their values are plain integers: user space makes tables without BTF, which Linux 6.1 takes beside this template,
//! which has it, only where a value can hold no timer or lock (`bpf_map_meta_equal` in kernel/bpf/map_in_map.c).

use aya_ebpf::btf_maps::{Array, ArrayOfMaps};
use aya_ebpf::macros::btf_map;
use lb_common::limits;

use super::MAPPED;

#[btf_map(name = "ek_maglev")]
static TABLES: ArrayOfMaps<
    Array<u32, { limits::TABLE_ENTRIES as usize }, MAPPED>,
    { limits::TABLES as usize },
> = ArrayOfMaps::new();

/// Number of the backend at an entry of a table.
#[inline(always)]
pub(crate) fn get(table: u32, entry: u32) -> Option<u32> {
    TABLES.get_value(table, &entry).copied()
}

#[inline(always)]
pub(crate) fn exists(table: u32) -> bool {
    TABLES.get(table).is_some()
}
