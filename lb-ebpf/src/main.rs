//! The shipped programs: `evenkeel` balances, `clock` tells user space what the jiffies in the flow table mean, `tables`
//! which Maglev tables there are.

#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

#[xdp]
#[inline(always)]
fn evenkeel(ctx: XdpContext) -> u32 {
    lb_ebpf::balance::run(&ctx)
}

/// Goes on where `evenkeel` ends, as does the one after it: user space puts them into `ek_programs`.
#[xdp]
#[inline(always)]
fn evenkeel_ipv6(ctx: XdpContext) -> u32 {
    lb_ebpf::balance::ipv6(&ctx)
}

#[xdp]
#[inline(always)]
fn evenkeel_rest(ctx: XdpContext) -> u32 {
    lb_ebpf::balance::rest(&ctx)
}

#[xdp]
fn clock(ctx: XdpContext) -> u32 {
    lb_ebpf::clock::write_jiffies(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
}

#[xdp]
fn tables(ctx: XdpContext) -> u32 {
    lb_ebpf::tables::list(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
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
