//! Bounds-checked views of the packet.
//!
//! A view is a pointer that was compared with the end of the packet; the verifier follows that comparison. Loads go
//! through the typed pointer although frames are not aligned: BPF on x86-64 and arm64 loads unaligned words in one
//! instruction, and `read_unaligned` would make four of it.

mod control;
mod extensions;
mod family;
mod headers;
mod parse;

use aya_ebpf::programs::XdpContext;
pub(crate) use control::Control;
pub(crate) use extensions::{Chain, is_extension};
pub(crate) use family::Family;
pub(crate) use headers::*;
pub(crate) use parse::Packet;

/// The `T` at `offset`, or `None` if the frame ends before its last byte.
#[inline(always)]
pub(crate) fn at<T>(ctx: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() { None } else { Some(start as *mut T) }
}

/// The `T` at a place that was in the frame before, compared again: across branches the verifier forgets how far.
#[inline(always)]
pub(crate) fn again<T>(ctx: &XdpContext, place: *mut T) -> Option<*mut T> {
    if place as usize + size_of::<T>() > ctx.data_end() { None } else { Some(place) }
}

/// The same number, of which the compiler knows nothing. It would leave out a comparison that it can tell the outcome of
/// where the verifier can't.
#[inline(always)]
pub(crate) fn opaque(number: usize) -> usize {
    let copy: usize;
    // SAFETY: the instruction only copies the number.
    unsafe { core::arch::asm!("{0} = {1}", out(reg) copy, in(reg) number, options(pure, nomem, nostack)) };
    copy
}

/// Whether the frame holds `bytes` bytes. A difference of lengths: `bytes` comes out of a byte swap, of which the verifier
/// of Linux 6.1 knows no bound, and it adds nothing unbounded to the start of the packet.
#[inline(always)]
pub(crate) fn holds(ctx: &XdpContext, bytes: usize) -> bool {
    bytes <= ctx.data_end() - ctx.data()
}

/// Bytes from anywhere in the frame, or `None` if it ends before the last of them.
#[inline(always)]
pub(crate) fn load<const BYTES: usize>(ctx: &XdpContext, offset: u32) -> Option<[u8; BYTES]> {
    // SAFETY: `anywhere` compared all of them with the end of the packet.
    anywhere(ctx, offset).map(|bytes| unsafe { *bytes })
}

/// Writes bytes there, if the frame holds them.
#[inline(always)]
pub(crate) fn store<const BYTES: usize>(ctx: &XdpContext, offset: u32, bytes: [u8; BYTES]) {
    if let Some(place) = anywhere(ctx, offset) {
        // SAFETY: as above.
        unsafe { *place = bytes };
    }
}

/// No frame is longer; the verifier asks for some bound.
const LONGEST: u32 = 0x3fff;

#[inline(always)]
fn anywhere<const BYTES: usize>(ctx: &XdpContext, offset: u32) -> Option<*mut [u8; BYTES]> {
    // The comparison that the compiler makes of one byte tells the verifier nothing (`find_good_pkt_pointers` in
    // kernel/bpf/verifier.c).
    const { assert!(BYTES > 1) };
    if offset > LONGEST { None } else { at(ctx, (offset & LONGEST) as usize) }
}
