//! The flow table of each family, and what is called by family.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::addr::{Addr, Address, V4};
use lb_common::flow::{self, FlowKey, Ports, Set};
use lb_common::limits;

use super::{NONE, claim, everywhere, in_either};
use crate::globals;
use crate::maps::{MAPPED, scratch};

#[btf_map(name = "ek_flows4")]
static FLOWS4: Array<Set<V4>, { limits::SETS4 as usize }, MAPPED> = Array::new();

#[btf_map(name = "ek_flows6")]
static FLOWS6: Array<Set<Addr>, { limits::SETS6 as usize }, MAPPED> = Array::new();

/// A table by family.
pub(crate) trait Table: Address {
    /// Number of the table's extent.
    const EXTENT: u32;

    fn set(number: u32) -> Option<*mut Set<Self>>;
    /// Sets of the first part.
    fn base() -> u32;
    /// How often that doubles.
    fn levels() -> u32;
    /// The number of a live half's slot, or [`NONE`].
    fn search(key: &FlowKey<Self>) -> u32;
    /// As [`Self::search`], in two sets alone: see [`extent::sets_at`].
    fn search_at(key: &FlowKey<Self>, at: u32) -> u32;
    /// Stores a half that is not there, in two sets alone; the number of its slot, or [`NONE`].
    fn enter_at(key: &FlowKey<Self>, at: u32) -> u32;
}

impl Table for V4 {
    const EXTENT: u32 = 0;

    #[inline(always)]
    fn set(number: u32) -> Option<*mut Set<Self>> {
        FLOWS4.get_ptr_mut(number)
    }

    #[inline(always)]
    fn base() -> u32 {
        globals::base4()
    }

    #[inline(always)]
    fn levels() -> u32 {
        globals::levels4()
    }

    #[inline(always)]
    fn search(key: &FlowKey<Self>) -> u32 {
        ek_search4(key.source.0, key.destination.0, key.ports.word(), key.protocol)
    }

    #[inline(always)]
    fn search_at(key: &FlowKey<Self>, at: u32) -> u32 {
        ek_search_at4(key.source.0, key.destination.0, key.ports.word(), key.protocol, at)
    }

    #[inline(always)]
    fn enter_at(key: &FlowKey<Self>, at: u32) -> u32 {
        ek_enter_at4(key.source.0, key.destination.0, key.ports.word(), key.protocol, at)
    }
}

// The functions that search and store take and return numbers only, and are visible outside of the object: so the verifier
// looks at each once and not at every place it is called from ("Function by function verification" in
// Documentation/bpf/bpf_design_QA.rst).

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_search4(source: u32, destination: u32, ports: u32, protocol: u32) -> u32 {
    everywhere(&key4(source, destination, ports, protocol))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_search_at4(
    source: u32,
    destination: u32,
    ports: u32,
    protocol: u32,
    at: u32,
) -> u32 {
    in_either(&key4(source, destination, ports, protocol), at)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_enter_at4(
    source: u32,
    destination: u32,
    ports: u32,
    protocol: u32,
    at: u32,
) -> u32 {
    claim(&key4(source, destination, ports, protocol), at)
}

#[inline(always)]
const fn key4(source: u32, destination: u32, ports: u32, protocol: u32) -> FlowKey<V4> {
    FlowKey { source: V4(source), destination: V4(destination), ports: Ports::from_word(ports), protocol }
}

impl Table for Addr {
    const EXTENT: u32 = 1;

    #[inline(always)]
    fn set(number: u32) -> Option<*mut Set<Self>> {
        FLOWS6.get_ptr_mut(number)
    }

    #[inline(always)]
    fn base() -> u32 {
        globals::base6()
    }

    #[inline(always)]
    fn levels() -> u32 {
        globals::levels6()
    }

    #[inline(always)]
    fn search(key: &FlowKey<Self>) -> u32 {
        if put(key) { ek_search6() } else { NONE }
    }

    /// The key is in the scratch record, where [`Self::search`] put it.
    #[inline(always)]
    fn search_at(_: &FlowKey<Self>, at: u32) -> u32 {
        ek_search_at6(at)
    }

    #[inline(always)]
    fn enter_at(key: &FlowKey<Self>, at: u32) -> u32 {
        if put(key) { ek_enter_at6(at) } else { NONE }
    }
}

#[inline(always)]
fn put(key: &FlowKey<Addr>) -> bool {
    let Some(scratch) = scratch::get() else {
        return false;
    };
    // SAFETY: the record is this CPU's own.
    unsafe { (*scratch).key = key.mapped() };
    true
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_search6() -> u32 {
    let Some(scratch) = scratch::get() else {
        return NONE;
    };
    // SAFETY: the record is this CPU's own.
    everywhere(unsafe { &*(&raw const (*scratch).key).cast::<FlowKey<Addr>>() })
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_search_at6(at: u32) -> u32 {
    let Some(scratch) = scratch::get() else {
        return NONE;
    };
    // SAFETY: the record is this CPU's own.
    in_either(unsafe { &*(&raw const (*scratch).key).cast::<FlowKey<Addr>>() }, at)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_enter_at6(at: u32) -> u32 {
    let Some(scratch) = scratch::get() else {
        return NONE;
    };
    // SAFETY: the record is this CPU's own.
    claim(unsafe { &*(&raw const (*scratch).key).cast::<FlowKey<Addr>>() }, at)
}

/// Both are written field for field alike.
const _: () = assert!(size_of::<FlowKey<Addr>>() == size_of::<flow::MappedKey>());
