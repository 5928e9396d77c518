//! Backends of a service one by one. Written by user space only.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::service::Members;

#[btf_map(name = "ek_members")]
static MEMBERS: Array<Members, { limits::SERVICES as usize }> = Array::new();

#[inline(always)]
pub(crate) fn get(service: u32) -> Option<&'static Members> {
    MEMBERS.get(service)
}
