//! Backends by number. Written by user space only.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::backend::{Backend, SERVING};
use lb_common::limits;

#[btf_map(name = "ek_backends")]
static BACKENDS: Array<Backend, { limits::BACKENDS as usize }> = Array::new();

#[inline(always)]
pub(crate) fn get(backend: u32) -> Option<&'static Backend> {
    BACKENDS.get(backend)
}

/// Whether packets of a flow that was given to the backend of this identity may go on to it. A number that was given to
/// another backend since is not that flow's.
#[inline(always)]
pub(crate) fn serves(backend: &Backend, identity: u32) -> bool {
    backend.flags & SERVING != 0 && backend.identity == identity
}
