//! The balancer as `cargo xtask bench packets` times it: many rounds in one test run.
//!
//! A test run hands the program the packet as the last round left it. So every round writes the headers afresh, for
//! another client, and takes back what the balancer did to the start of the packet. `empty` does all of that and
//! balances nothing: its time is subtracted. `called` does that with one call of a helper more.

#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::timed::{self, HEADERS4, HEADERS6, OFFSET, Timed};

#[xdp]
fn evenkeel(ctx: XdpContext) -> u32 {
    if begin(&ctx).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    let action = lb_ebpf::balance::run(&ctx);
    back(&ctx, action)
}

/// The rest of a round that goes on in another program, as is the one after it.
#[xdp]
fn evenkeel_ipv6(ctx: XdpContext) -> u32 {
    let action = lb_ebpf::balance::ipv6(&ctx);
    back(&ctx, action)
}

#[xdp]
fn evenkeel_rest(ctx: XdpContext) -> u32 {
    let action = lb_ebpf::balance::rest(&ctx);
    back(&ctx, action)
}

/// Takes back what the balancer did to the start of the packet.
#[inline(always)]
fn back(ctx: &XdpContext, action: u32) -> u32 {
    let grown = (ctx.data_end() - ctx.data()).wrapping_sub(OFFSET + size_of::<Timed>());
    // SAFETY: the context is this program's own.
    if grown != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, grown as i32) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    end(ctx, action)
}

/// As in the shipped object: a sweep lets the flow table grow.
#[xdp]
fn clock(ctx: XdpContext) -> u32 {
    lb_ebpf::clock::write_jiffies(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
}

#[xdp]
fn empty(ctx: XdpContext) -> u32 {
    bare(&ctx)
}

/// One read of the flow table more than `empty`, at a place that follows from the client's number: what that costs is up to
/// the machine's caches, its memory and who else uses them.
#[xdp]
fn read(ctx: XdpContext) -> u32 {
    let Some(timed) = begin(&ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: `begin` compared it with the end of the packet. The round after the one that is timed will do.
    let (number, spacing, action) = unsafe {
        ((*timed).round.wrapping_mul((*timed).stride) & (*timed).mask, (*timed).spacing, (*timed).action)
    };
    match lb_ebpf::read_slot((number as u32).wrapping_mul(spacing)) {
        // No slot holds this: the packet waits for what is read, as it does where it decides.
        None | Some(u64::MAX) => xdp_action::XDP_ABORTED,
        Some(_) => end(&ctx, action),
    }
}

/// One call of a helper more than `empty`: what that alone costs differs from machine to machine, with the processor and
/// with what the kernel does against its faults.
#[xdp]
fn called(ctx: XdpContext) -> u32 {
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, 0) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    bare(&ctx)
}

#[inline(always)]
fn bare(ctx: &XdpContext) -> u32 {
    let Some(timed) = begin(ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: `begin` compared it with the end of the packet.
    let (moves, action) = unsafe { ((*timed).moves, (*timed).action) };
    // SAFETY: the context is this program's own.
    if moves != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, 0) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    end(ctx, action)
}

/// Addresses and ports that `fullnat` gave to flows, in any order: see [`lb_common::timed::reply`].
#[btf_map(name = "ek_timed")]
static REPLIES: Array<u32, { timed::REPLIES as usize }> = Array::new();

/// Where in a frame the last word of source and destination address are, and the source port.
const PLACES4: (usize, usize, usize) = (26, 30, 34);
const PLACES6: (usize, usize, usize) = (34, 50, 54);

/// Writes the headers of the next round.
#[inline(always)]
fn begin(ctx: &XdpContext) -> Option<*mut Timed> {
    let timed = carried(ctx)?;
    let start = ctx.data() as *mut u8;
    // SAFETY: `carried` compared a place behind all of these with the end of the packet.
    unsafe {
        let number = ((*timed).round.wrapping_mul((*timed).stride) & (*timed).mask) as u32;
        (*timed).round += 1;
        if (*timed).ipv6 == 0 {
            *start.cast::<[u64; HEADERS4 / 8]>() = *(&raw const (*timed).headers).cast();
            address(timed, start, PLACES4, number)?;
        } else {
            *start.cast::<[u64; HEADERS6 / 8]>() = (*timed).headers;
            address(timed, start, PLACES6, number)?;
        }
    }
    Some(timed)
}

/// Writes addresses and ports that differ by round.
///
/// # Safety
/// `start` is the start of the packet that `timed` lies in.
#[inline(always)]
unsafe fn address(
    timed: *const Timed,
    start: *mut u8,
    (source, destination, ports): (usize, usize, usize),
    number: u32,
) -> Option<()> {
    // SAFETY: by the caller.
    unsafe {
        let word = |at: usize, word: u32| *start.add(at).cast::<u32>() = word.to_be();
        let port = |at: usize, port: u16| *start.add(at).cast::<u16>() = port.to_be();
        if (*timed).direction == timed::TO_NODE {
            let (from, to, to_port) =
                timed::reply_ends((*timed).backend, (*timed).allocated, *REPLIES.get(number)?);
            word(source, from);
            word(destination, to);
            port(ports + 2, to_port);
            return Some(());
        }
        let (client, client_port) = timed::client((*timed).client, number);
        if (*timed).direction == timed::TO_CLIENT {
            word(destination, client);
            port(ports + 2, client_port);
        } else {
            word(source, client);
            port(ports, client_port);
        }
    }
    Some(())
}

#[inline(always)]
fn end(ctx: &XdpContext, action: u32) -> u32 {
    let Some(timed) = carried(ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: `carried` compared it with the end of the packet.
    unsafe {
        if action == (*timed).action {
            (*timed).expected += 1;
        }
    }
    action
}

#[inline(always)]
fn carried(ctx: &XdpContext) -> Option<*mut Timed> {
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
