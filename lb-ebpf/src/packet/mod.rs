//! Bounds-checked views of the packet.
//!
//! A view is a pointer that was compared with the end of the packet; the verifier follows that comparison. Loads go
//! through the typed pointer although frames are not aligned: BPF on x86-64 and arm64 loads unaligned words in one
//! instruction, and `read_unaligned` would make four of it.

mod headers;
mod parse;

use aya_ebpf::programs::XdpContext;
pub(crate) use headers::{
    ETHERTYPE_IPV4, Ethernet, Ipv4, PROTOCOL_IPIP, PROTOCOL_TCP, PROTOCOL_UDP, Tcp, Udp,
};
pub(crate) use parse::{Packet, Transport, parse};

/// The `T` at `offset`, or `None` if the frame ends before its last byte.
#[inline(always)]
pub(crate) fn at<T>(ctx: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() { None } else { Some(start as *mut T) }
}

/// Bytes of the frame.
#[inline(always)]
pub(crate) fn length(ctx: &XdpContext) -> usize {
    ctx.data_end() - ctx.data()
}
