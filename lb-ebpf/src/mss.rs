//! The largest segment that the two ends of a connection announce to each other (RFC 9293 section 3.7.1), lowered to what the
//! service says.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::checksum::Update;
use lb_common::service::Method;

use crate::globals;
use crate::maps::{scratch, services};
use crate::miss::Answer;
use crate::packet::{Ethernet, Family, Ipv6, Tcp, load, store};

/// Lowers what the SYN of the request in the scratch record announces, if its service asks for that and its replies come
/// back through the node: it must hold for both directions.
#[inline(always)]
pub(crate) fn lower<A: Family>(ctx: &XdpContext, answer: Answer) {
    if !announces() || largest(answer) == 0 {
        return;
    }
    let offset = if A::IS_V4 {
        let Some([version_ihl, _]) = load(ctx, size_of::<Ethernet>() as u32) else {
            return;
        };
        size_of::<Ethernet>() as u32 + u32::from(version_ihl & 0xf) * 4
    } else {
        (size_of::<Ethernet>() + size_of::<Ipv6>()) as u32
    };
    ek_lower(ctx.ctx, answer.word(), offset);
}

/// Whether the request is a SYN, with or without ACK.
#[inline(always)]
pub(crate) fn announces() -> bool {
    // SAFETY: the record is this CPU's own.
    scratch::get().is_some_and(|scratch| unsafe { (*scratch).request.tcp_flags } & u32::from(Tcp::SYN) != 0)
}

/// As [`lower`], with the TCP header at an offset in the frame. Visible outside of the object, so that the verifier looks at it
/// once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_lower(ctx: *mut xdp_md, answer: u32, tcp: u32) -> u32 {
    let largest = largest(Answer::from_word(answer));
    u32::from(largest != 0 && in_options(&XdpContext::new(ctx), tcp, largest).is_some())
}

/// 0 for no bound.
#[inline(always)]
fn largest(answer: Answer) -> u16 {
    let Some(scratch) = scratch::get() else {
        return 0;
    };
    let method = answer.method();
    if !answer.is_reply() && method != Method::NAT && method != Method::FULL_NAT {
        return 0;
    }
    // SAFETY: the record is this CPU's own.
    let service =
        unsafe { if answer.is_reply() { (*scratch).half.service } else { (*scratch).decision.service } };
    services::get(service).map_or(0, |service| service.mss)
}

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
/// Bytes of that option, its kind and length among them.
const OPTION: u8 = 4;

/// Options that contradict themselves are left as they are: the other end judges them.
#[inline(always)]
fn in_options(ctx: &XdpContext, tcp: u32, largest: u16) -> Option<()> {
    let [data_offset, _] = load(ctx, tcp + 12)?;
    let end = tcp + u32::from(data_offset >> 4) * 4;
    let mut at = scratch::forgotten(tcp + size_of::<Tcp>() as u32)?;
    for _ in 0..globals::tcp_options() {
        if at + u32::from(OPTION) > end {
            return None;
        }
        let [kind, length, high, low] = load(ctx, at)?;
        if kind == NO_OPERATION {
            at = scratch::forgotten(at + 1)?;
            continue;
        }
        if kind == END_OF_OPTIONS || length < 2 {
            return None;
        }
        if kind != MAXIMUM_SEGMENT_SIZE {
            at = scratch::forgotten(at + u32::from(length))?;
            continue;
        }
        if length == OPTION && u16::from_be_bytes([high, low]) > largest {
            return replace(ctx, tcp, at + 2, [high, low], largest.to_be_bytes());
        }
        return None;
    }
    None
}

#[inline(always)]
fn replace(ctx: &XdpContext, tcp: u32, at: u32, old: [u8; 2], new: [u8; 2]) -> Option<()> {
    const CHECKSUM: u32 = 16;
    let word = |[first, second]: [u8; 2]| {
        // Behind an odd number of bytes it is spread over two words of the sum.
        if (at - tcp) & 1 == 0 {
            u16::from_ne_bytes([first, second])
        } else {
            u16::from_ne_bytes([second, first])
        }
    };
    let checksum = u16::from_ne_bytes(load(ctx, tcp + CHECKSUM)?);
    let checksum = Update::new(checksum).u16(word(old), word(new)).finish();
    store(ctx, at, new);
    store(ctx, tcp + CHECKSUM, checksum.to_ne_bytes());
    Some(())
}
