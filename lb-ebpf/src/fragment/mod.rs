//! Packets whose transport header is not where it usually is, or not in them at all: fragments, and IPv6 packets with
//! extension headers.
//!
//! ```text
//! read ─► whole, or first of its packet ─► flow table ─ hit ─┬─► remember the first one ─► send
//!   │                                          └─ miss ─► service
//!   └─► later one ─► what was decided for the first one ─────────────────────────────────► send
//! ```
//!
//! All fragments of a packet go where the first one went, whatever the scheduler would say now. A later one that overtakes
//! the first is dropped, and the sender repeats the packet.

mod decide;
mod read;
mod send;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};

use crate::maps::scratch::{self, Piece};
use crate::miss::{self, Answer, Called};
use crate::outcome::Outcome;

/// What a packet is of its kind. Numbers, for it goes through the scratch record.
pub(crate) struct Kind;

impl Kind {
    /// No fragment, or one that is all of its packet (RFC 6946).
    pub(crate) const WHOLE: u32 = 0;
    pub(crate) const FIRST: u32 = 1;
    /// Without a transport header.
    pub(crate) const LATER: u32 = 2;
}

/// Functions of their own, one after another, for they would not fit on one stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_piece4(ctx: *mut xdp_md, tags: u32) -> u32 {
    let outcome = read4(ctx, tags);
    if outcome != Outcome::UNKNOWN.word() { outcome } else { send4(ctx, decided::<V4>()) }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_piece6(ctx: *mut xdp_md, tags: u32) -> u32 {
    let outcome = read6(ctx, tags);
    if outcome != Outcome::UNKNOWN.word() { outcome } else { send6(ctx, decided::<Addr>()) }
}

#[inline(never)]
fn read4(ctx: *mut xdp_md, tags: u32) -> u32 {
    read::read::<V4>(&XdpContext::new(ctx), tags).word()
}

#[inline(never)]
fn read6(ctx: *mut xdp_md, tags: u32) -> u32 {
    read::read::<Addr>(&XdpContext::new(ctx), tags).word()
}

#[inline(never)]
fn send4(ctx: *mut xdp_md, answer: u32) -> u32 {
    send::send::<V4>(&XdpContext::new(ctx), Answer::from_word(answer)).word()
}

#[inline(never)]
fn send6(ctx: *mut xdp_md, answer: u32) -> u32 {
    send::send::<Addr>(&XdpContext::new(ctx), Answer::from_word(answer)).word()
}

/// What to do with the packet in the scratch record. All of it works by that record, and is visible outside of the object, so that the
/// verifier looks at each by itself.
#[inline(always)]
fn decided<A: Known>() -> u32 {
    let known = A::known();
    let answer = match Answer::from_word(known) {
        Answer::UNKNOWN => miss::decide::<A>(false),
        Answer::LOST => miss::decide::<A>(true),
        answer => answer,
    };
    decide::ek_keep_first(answer.word())
}

/// By family.
trait Known: Called {
    fn known() -> u32;
}

impl Known for V4 {
    #[inline(always)]
    fn known() -> u32 {
        ek_flow_of_piece4()
    }
}

impl Known for Addr {
    #[inline(always)]
    fn known() -> u32 {
        ek_flow_of_piece6()
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_flow_of_piece4() -> u32 {
    decide::known::<V4>().word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_flow_of_piece6() -> u32 {
    decide::known::<Addr>().word()
}

/// The packet at hand, in the scratch record.
#[inline(always)]
fn piece() -> Option<&'static mut Piece> {
    let scratch = scratch::get()?;
    // SAFETY: the record is this CPU's own.
    Some(unsafe { &mut (*scratch).piece })
}
