//! Backends by number. Written by user space only.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::backend::Backend;
use lb_common::limits;

#[btf_map(name = "ek_backends")]
static BACKENDS: Array<Backend, { limits::BACKENDS as usize }> = Array::new();

#[inline(always)]
pub(crate) fn get(backend: u32) -> Option<&'static Backend> {
    BACKENDS.get(backend)
}
