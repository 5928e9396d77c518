//! Bounds-checked views of the packet.
//!
//! A view is a pointer that was compared with the end of the packet; the verifier follows that comparison. Loads go
//! through the typed pointer although frames are not aligned: BPF on x86-64 and arm64 loads unaligned words in one
//! instruction, and `read_unaligned` would make four of it.

mod extensions;
mod family;
mod headers;
mod parse;

use aya_ebpf::helpers::generated::{bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use aya_ebpf::programs::XdpContext;
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

/// Whether the frame holds `bytes` bytes. A difference of lengths: `bytes` comes out of a byte swap, of which the verifier
/// of Linux 6.1 knows no bound, and it adds nothing unbounded to the start of the packet.
#[inline(always)]
pub(crate) fn holds(ctx: &XdpContext, bytes: usize) -> bool {
    bytes <= ctx.data_end() - ctx.data()
}

/// Bytes from anywhere in the frame, or `None` if it ends before the last of them. For what is rare: it costs a call, but the
/// verifier need not know where they are.
#[inline(always)]
pub(crate) fn load<const BYTES: usize>(ctx: &XdpContext, offset: u32) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let to: *mut [u8; BYTES] = &raw mut bytes;
    // SAFETY: the helper writes as many bytes as there is room for.
    let failed = unsafe { bpf_xdp_load_bytes(ctx.ctx, offset, to.cast(), BYTES as u32) };
    if failed != 0 { None } else { Some(bytes) }
}

/// Writes bytes there, if the frame holds them.
#[inline(always)]
pub(crate) fn store<const BYTES: usize>(ctx: &XdpContext, offset: u32, bytes: [u8; BYTES]) {
    let mut bytes = bytes;
    let from: *mut [u8; BYTES] = &raw mut bytes;
    // SAFETY: the helper reads as many bytes as there are.
    let _ = unsafe { bpf_xdp_store_bytes(ctx.ctx, offset, from.cast(), BYTES as u32) };
}
