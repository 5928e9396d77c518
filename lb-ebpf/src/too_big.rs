//! The answer to a packet that does not fit the way to its backend, with the size that fits: "fragmentation needed"
//! (RFC 1191 section 4) or "packet too big" (RFC 4443 section 3.2), to its sender, in the name of the address it was sent to.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::checksum::fold;

use crate::packet::{Control, Ethernet, Icmp, Ipv4, at};

/// IPv4: the quoted header and eight bytes of what it carries (RFC 792).
const QUOTED4: usize = 28;
/// IPv6: as much as makes a packet that fits every link. What is answered is always larger.
const QUOTED6: usize = LEAST_MTU6 as usize - 40 - size_of::<Icmp>();
/// Every host takes this much (RFC 791 section 3.2), so there is no point in asking for less.
const LEAST_MTU4: u32 = 68;
/// RFC 8200 section 5. A sender makes no smaller packets (RFC 8201 section 4), whatever it is told.
const LEAST_MTU6: u32 = 1280;

/// Turns the packet into the answer, and says whether there is one: none if the sender allows fragments, which the answer
/// would not stop, if its header has options, or if what fits is less than everybody may send.
#[inline(always)]
pub(crate) fn answer<A: Control>(ctx: *mut xdp_md, mtu: u32) -> bool {
    (if A::IS_V4 { ek_too_big4(ctx, mtu) } else { ek_too_big6(ctx, mtu) }) != 0
}

// Functions of their own: what is rare must not cost the rest registers and stack. Visible outside of the object, so that
// the verifier looks at each once.

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_too_big4(ctx: *mut xdp_md, mtu: u32) -> u32 {
    u32::from(answered::<V4>(&XdpContext::new(ctx), mtu).is_some())
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_too_big6(ctx: *mut xdp_md, mtu: u32) -> u32 {
    u32::from(answered::<Addr>(&XdpContext::new(ctx), mtu).is_some())
}

#[inline(always)]
fn answered<A: Control>(ctx: &XdpContext, mtu: u32) -> Option<()> {
    let quoted = if A::IS_V4 { QUOTED4 } else { QUOTED6 };
    let headers = size_of::<A::Header>() + size_of::<Icmp>();
    if mtu < if A::IS_V4 { LEAST_MTU4 } else { LEAST_MTU6 } {
        return None;
    }
    let (ethernet, ip) = (at::<Ethernet>(ctx, 0)?, at::<A::Header>(ctx, size_of::<Ethernet>())?);
    // SAFETY: `at` compared both headers with the end of the packet.
    let (ethernet, (sender, address)) = unsafe {
        if A::IS_V4 && !wants_answer(ip.cast()) {
            return None;
        }
        (*ethernet, A::addresses(ip))
    };
    if !sender.is_unicast() {
        return None;
    }
    let cut = (size_of::<Ethernet>() + quoted) as i32 - (ctx.data_end() - ctx.data()) as i32;
    // SAFETY: the context is this program's own.
    unsafe {
        if bpf_xdp_adjust_tail(ctx.ctx, cut) != 0 || bpf_xdp_adjust_head(ctx.ctx, -(headers as i32)) != 0 {
            return None;
        }
    }
    let header = at::<Ethernet>(ctx, 0)?;
    let outer = at::<A::Header>(ctx, size_of::<Ethernet>())?;
    let icmp = at::<Icmp>(ctx, size_of::<Ethernet>() + size_of::<A::Header>())?;
    let length = (size_of::<Icmp>() + quoted) as u16;
    // Destination unreachable, fragmentation needed; packet too big.
    let [kind, code] = if A::IS_V4 { [3, 4] } else { [2, 0] };
    let size = mtu.to_be();
    let mut sum = quotation::<A>(ctx, size_of::<Ethernet>() + headers)?
        + u64::from(u16::from_ne_bytes([kind, code]))
        + u64::from(size);
    if !A::IS_V4 {
        sum += A::pseudo_sum(address, sender, A::ICMP, length);
    }
    // SAFETY: `at` compared each with the new end of the packet.
    unsafe {
        *header = ethernet;
        (*header).turn();
        *outer = A::header(address, sender, A::ICMP, length);
        *icmp = Icmp { kind, code, checksum: !fold(sum), rest: size };
    }
    Some(())
}

/// # Safety
/// The header was compared with the end of the packet.
#[inline(always)]
unsafe fn wants_answer(ip: *mut Ipv4) -> bool {
    // SAFETY: by the caller.
    unsafe { (*ip).version_ihl == 0x45 && (*ip).fragment & Ipv4::DONT_FRAGMENT != 0 }
}

/// Sum of what is quoted.
#[inline(always)]
fn quotation<A: Control>(ctx: &XdpContext, at: usize) -> Option<u64> {
    if A::IS_V4 {
        return sum::<QUOTED4>(ctx, at, 0);
    }
    /// What the helper takes at once before Linux 6.13 (`bpf_csum_diff` in net/core/filter.c).
    const MOST: usize = 512;
    let begun = sum::<MOST>(ctx, at, 0)?;
    let begun = sum::<MOST>(ctx, at + MOST, begun)?;
    sum::<{ QUOTED6 - 2 * MOST }>(ctx, at + 2 * MOST, begun)
}

#[inline(always)]
fn sum<const BYTES: usize>(ctx: &XdpContext, offset: usize, begun: u64) -> Option<u64> {
    let bytes = at::<[u8; BYTES]>(ctx, offset)?;
    // SAFETY: `at` compared them with the end of the packet.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes.cast(), BYTES as u32, begun as u32) };
    Some(sum as u64 & 0xffff_ffff)
}
