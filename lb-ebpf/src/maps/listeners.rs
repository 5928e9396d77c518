//! Listen addresses of services. Written by user space only.

use aya_ebpf::btf_maps::{Array, HashMap};
use aya_ebpf::macros::btf_map;
use lb_common::addr::{Addr, Address, V4};
use lb_common::limits;
use lb_common::service::{self, Listener, ListenerKey4, ListenerKey6, Near, Ranges};

#[btf_map(name = "ek_listeners4")]
static LISTENERS4: HashMap<ListenerKey4, Listener, { limits::LISTENERS as usize }> = HashMap::new();

#[btf_map(name = "ek_listeners6")]
static LISTENERS6: HashMap<ListenerKey6, Listener, { limits::LISTENERS as usize }> = HashMap::new();

#[btf_map(name = "ek_near")]
static NEAR: Array<Near, { limits::NEAR as usize }> = Array::new();

#[btf_map(name = "ek_ranges")]
static RANGED: Array<Ranges, { limits::RANGED as usize }> = Array::new();

/// No service listens there.
pub(crate) const NONE: u32 = u32::MAX;

/// The service, if it can be told without a look-up in a hash map, which costs several returns of functions.
#[inline(always)]
pub(crate) fn near<A: Address>(address: A, port: u16, protocol: u8) -> Option<u32> {
    let near = NEAR.get_ptr(service::near(address, port, protocol))?;
    // SAFETY: an element of an array stays readable. In whatever order it is read, it is of one listen address: see `Near`.
    unsafe {
        let number = (&raw const (*near).number).read_volatile();
        let found = number != 0
            && (*near).port == port
            && (*near).protocol == protocol
            && (*near).address == address.mapped();
        if found { Some(number - 1) } else { None }
    }
}

#[inline(always)]
pub(crate) fn exact4(address: V4, port: u16, protocol: u8) -> u32 {
    let key = ListenerKey4 { address, port, protocol, zero: 0 };
    // SAFETY: copied at once; the kernel frees a replaced element only after this program has ended.
    unsafe { LISTENERS4.get(key).map_or(NONE, |listener| listener.number) }
}

#[inline(always)]
pub(crate) fn exact6(address: Addr, port: u16, protocol: u8) -> u32 {
    let key = ListenerKey6 { address, port, protocol, zero: 0 };
    // SAFETY: as above.
    unsafe { LISTENERS6.get(key).map_or(NONE, |listener| listener.number) }
}

/// The service with this port, in network order, in a range of the record.
#[inline(always)]
pub(crate) fn in_ranges(record: u32, port: u16) -> u32 {
    ek_in_ranges(record, u32::from(u16::from_be(port)))
}

/// Visible outside of the object, so that the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_in_ranges(record: u32, port: u32) -> u32 {
    let Some(ranges) = RANGED.get(record) else {
        return NONE;
    };
    for range in &ranges.ranges {
        if u32::from(range.first) <= port && port <= u32::from(range.last) {
            return range.service;
        }
    }
    NONE
}
