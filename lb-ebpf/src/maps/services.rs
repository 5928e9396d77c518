//! Listen addresses of services. Written by user space only; an update replaces the whole value at once.

use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::btf_map;
use lb_common::addr::Addr;
use lb_common::flow::FlowKey;
use lb_common::limits;
use lb_common::service::{ServiceKey, ServiceValue};

#[btf_map(name = "ek_services")]
static SERVICES: HashMap<ServiceKey, ServiceValue, { limits::LISTENERS as usize }> = HashMap::new();

/// The service that the destination of a packet belongs to.
#[inline(always)]
pub(crate) fn get(key: &FlowKey) -> Option<ServiceValue> {
    let key = ServiceKey {
        address: Addr::from_v4(key.destination),
        port: key.destination_port,
        protocol: key.protocol as u8,
        zero: 0,
    };
    // SAFETY: copied at once; the kernel frees a replaced element only after this program has ended.
    unsafe { SERVICES.get(key).copied() }
}
