//! The kernel's jiffies.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::programs::XdpContext;

use crate::packet::at;

#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_jiffies64() as u32 }
}

/// Writes jiffies and the monotonic clock in nanoseconds over the first 16 bytes of the packet, for user space to learn
/// how long a jiffy is.
#[inline(always)]
pub fn write_jiffies(ctx: &XdpContext) -> Option<()> {
    let out: *mut [u64; 2] = at(ctx, 0)?;
    // SAFETY: `at` compared both words with the end of the packet; the helpers only read clocks.
    unsafe { *out = [bpf_jiffies64(), bpf_ktime_get_ns()] };
    Some(())
}
