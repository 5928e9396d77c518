//! `refuse` on masters that do not accept what is sent to their virtual addresses: an object of its own, for few have such.

#![no_std]
#![no_main]

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

#[classifier]
fn evenkeel_refuse(ctx: TcContext) -> i32 {
    lb_ebpf::refuse::run(&ctx)
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
