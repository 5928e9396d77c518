//! Services by number. Written by user space only.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::service::Service;

#[btf_map(name = "ek_services")]
static SERVICES: Array<Service, { limits::SERVICES as usize }> = Array::new();

#[inline(always)]
pub(crate) fn get(number: u32) -> Option<&'static Service> {
    SERVICES.get(number)
}
