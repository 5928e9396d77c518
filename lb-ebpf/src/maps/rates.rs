//! New flows by service.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::service::Bucket;

#[btf_map(name = "ek_rates")]
static RATES: Array<Bucket, { limits::SERVICES as usize }> = Array::new();

#[inline(always)]
pub(crate) fn get(service: u32) -> Option<*mut Bucket> {
    RATES.get_ptr_mut(service)
}
