//! What user space tells the program before it loads it; constants to the verifier.

use lb_common::extent;
use lb_common::limits::{SETS4, SETS6};

/// Secret part of the hash that places flows.
#[unsafe(no_mangle)]
static FLOW_SEED: u64 = 0;

/// Sets of the first parts of the flow tables, and how often these double: see [`lb_common::extent`].
#[unsafe(no_mangle)]
static BASE4: u32 = SETS4 >> extent::levels(SETS4);

#[unsafe(no_mangle)]
static BASE6: u32 = SETS6 >> extent::levels(SETS6);

#[unsafe(no_mangle)]
static LEVELS4: u32 = extent::levels(SETS4);

#[unsafe(no_mangle)]
static LEVELS6: u32 = extent::levels(SETS6);

/// [`lb_common::flow::WAYS`], which the compiler would unroll loops by: what is rare had better be small.
#[unsafe(no_mangle)]
static WAYS: u32 = lb_common::flow::WAYS;

/// Extension headers that are walked over; the compiler would unroll this too, and the next.
#[unsafe(no_mangle)]
static EXTENSION_HEADERS: u32 = 6;

/// Options that a TCP header has room for, if each is one byte.
#[unsafe(no_mangle)]
static TCP_OPTIONS: u32 = 40;

#[inline(always)]
pub(crate) fn extension_headers() -> u32 {
    // SAFETY: as below.
    unsafe { core::ptr::read_volatile(&raw const EXTENSION_HEADERS) }
}

#[inline(always)]
pub(crate) fn tcp_options() -> u32 {
    // SAFETY: as below.
    unsafe { core::ptr::read_volatile(&raw const TCP_OPTIONS) }
}

#[inline(always)]
pub(crate) fn ways() -> u32 {
    // SAFETY: as below.
    unsafe { core::ptr::read_volatile(&raw const WAYS) }
}

#[inline(always)]
pub(crate) fn flow_seed() -> u64 {
    // SAFETY: it is initialized; volatile, for the compiler must not believe the value it sees.
    unsafe { core::ptr::read_volatile(&raw const FLOW_SEED) }
}

#[inline(always)]
pub(crate) fn base4() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const BASE4) }
}

#[inline(always)]
pub(crate) fn base6() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const BASE6) }
}

#[inline(always)]
pub(crate) fn levels4() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const LEVELS4) }
}

#[inline(always)]
pub(crate) fn levels6() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const LEVELS6) }
}

/// UDP port that `decap` takes for GUE, in network order.
#[unsafe(no_mangle)]
static GUE_PORT: u16 = lb_common::decap::GUE_PORT.to_be();

#[inline(always)]
pub(crate) fn gue_port() -> u16 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const GUE_PORT) }
}
