//! The balancer as `cargo xtask bench packets` times it: many rounds in one test run.
//!
//! A test run hands the program the packet as the last round left it. So every round writes the headers afresh, for
//! another client, and takes back what the balancer did to the start of the packet. `empty` does all of that and
//! balances nothing: its time is subtracted.

#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::timed::{HEADERS, OFFSET, Timed, client};

#[xdp]
fn evenkeel(ctx: XdpContext) -> u32 {
    let length = ctx.data_end() - ctx.data();
    if begin(&ctx).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    let action = lb_ebpf::balance::run(&ctx);
    let grown = (ctx.data_end() - ctx.data()).wrapping_sub(length);
    // SAFETY: the context is this program's own.
    if grown != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, grown as i32) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    end(&ctx, action)
}

#[xdp]
fn empty(ctx: XdpContext) -> u32 {
    let Some(timed) = begin(&ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: `begin` compared it with the end of the packet.
    let (moves, action) = unsafe { ((*timed).moves, (*timed).action) };
    // SAFETY: the context is this program's own.
    if moves != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, 0) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    end(&ctx, action)
}

/// Writes the headers of the next round.
#[inline(always)]
fn begin(ctx: &XdpContext) -> Option<*mut Timed> {
    let timed = timed(ctx)?;
    let headers = ctx.data() as *mut [u64; HEADERS / 8];
    let start = ctx.data() as *mut u8;
    // SAFETY: `timed` compared a place behind all of these with the end of the packet.
    unsafe {
        let number = ((*timed).round.wrapping_mul((*timed).stride) & (*timed).mask) as u32;
        (*timed).round += 1;
        *headers = (*timed).headers;
        let (address, port) = client((*timed).client, number);
        let (address_at, port_at) = if (*timed).reply == 0 { (26, 34) } else { (30, 36) };
        *start.add(address_at).cast::<u32>() = address.to_be();
        *start.add(port_at).cast::<u16>() = port.to_be();
    }
    Some(timed)
}

#[inline(always)]
fn end(ctx: &XdpContext, action: u32) -> u32 {
    let Some(timed) = timed(ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: `timed` compared it with the end of the packet.
    unsafe {
        if action == (*timed).action {
            (*timed).expected += 1;
        }
    }
    action
}

#[inline(always)]
fn timed(ctx: &XdpContext) -> Option<*mut Timed> {
    let place = ctx.data() + OFFSET;
    if place + size_of::<Timed>() > ctx.data_end() { None } else { Some(place as *mut Timed) }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // The verifier accepts no program that can reach this.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
