//! VLAN tags. They come off before a packet is looked at, so that the rest of the program finds every header where it is in
//! a frame without; a frame that leaves gets those of its next hop, and one that passes gets its own back.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::backend::{SERVICE_TAG, TAGGED, tags};

use crate::packet::{ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, Ethernet, at};

/// Bytes of a tag.
const TAG: usize = 4;
/// VLAN identifier in a tag.
const IDENTIFIER: u16 = 0x0fff;

/// Both addresses, then a tag: its type, priority and identifier; then the type of what follows.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tagged {
    addresses: [u32; 3],
    tag_type: u16,
    control: u16,
    ethertype: u16,
}

/// Takes up to two tags off. The lower half of what it returns is what [`lb_common::backend::tags`] makes of them, 0 if
/// the frame is too short for what it says; the upper half is their control words as they came, with priority.
///
/// Visible outside of the object, so that the verifier looks at it once, and once at what follows and not for each number
/// of tags.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_strip(ctx: *mut xdp_md) -> u64 {
    let ctx = XdpContext::new(ctx);
    let first = strip_one(&ctx);
    if first == 0 {
        return 0;
    }
    let second = strip_one(&ctx);
    let (outer, inner) = if second == 0 { (0, first) } else { (first, second) };
    let controls = tags((outer >> 16) as u16, (inner >> 16) as u16);
    u64::from(controls) << 32 | u64::from(tags(outer as u16, inner as u16))
}

#[inline(always)]
fn strip_one(ctx: &XdpContext) -> u32 {
    let Some(header) = at::<Tagged>(ctx, 0) else {
        return 0;
    };
    // SAFETY: `at` compared the header with the end of the packet.
    let Tagged { addresses, tag_type, control, ethertype } = unsafe { *header };
    let kind = match tag_type {
        ETHERTYPE_VLAN => TAGGED,
        ETHERTYPE_SERVICE_VLAN => TAGGED | SERVICE_TAG,
        _ => return 0,
    };
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, TAG as i32) } != 0 {
        return 0;
    }
    let Some(plain) = at::<Ethernet>(ctx, 0) else {
        return 0;
    };
    // SAFETY: `at` compared the header with the new end of the packet.
    unsafe {
        *plain.cast::<[u32; 3]>() = addresses;
        (*plain).ethertype = ethertype;
    }
    let control = u16::from_be(control);
    tags(control, control & IDENTIFIER | kind)
}

/// Puts the tags of a next hop in front. `false` if the frame has no room there.
#[inline(always)]
pub(crate) fn push(ctx: *mut xdp_md, tags: u32) -> bool {
    const IDENTIFIERS: u32 = (IDENTIFIER as u32) << 16 | IDENTIFIER as u32;
    restore(ctx, u64::from(tags & IDENTIFIERS) << 32 | u64::from(tags))
}

/// Puts tags in front as [`ek_strip`] found them. `false` if the frame has no room there.
#[inline(always)]
pub(crate) fn restore(ctx: *mut xdp_md, stripped: u64) -> bool {
    ek_restore(ctx, stripped) != 0
}

/// Visible outside of the object, so that the verifier looks at it once and not for every way out.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_restore(ctx: *mut xdp_md, stripped: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    let (tags, controls) = (stripped as u32, (stripped >> 32) as u32);
    let restored = push_one(&ctx, tags as u16, controls as u16)
        && (tags >> 16 == 0 || push_one(&ctx, (tags >> 16) as u16, (controls >> 16) as u16));
    u32::from(restored)
}

#[inline(always)]
fn push_one(ctx: &XdpContext, tag: u16, control: u16) -> bool {
    let Some(plain) = at::<Ethernet>(ctx, 0) else {
        return false;
    };
    // SAFETY: `at` compared the header with the end of the packet.
    let (addresses, ethertype) = unsafe { (*plain.cast::<[u32; 3]>(), (*plain).ethertype) };
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(TAG as i32)) } != 0 {
        return false;
    }
    let Some(header) = at::<Tagged>(ctx, 0) else {
        return false;
    };
    let tag_type = if tag & SERVICE_TAG != 0 { ETHERTYPE_SERVICE_VLAN } else { ETHERTYPE_VLAN };
    // SAFETY: `at` compared the header with the new end of the packet.
    unsafe { *header = Tagged { addresses, tag_type, control: control.to_be(), ethertype } };
    true
}
