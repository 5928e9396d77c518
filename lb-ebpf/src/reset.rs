//! The answer to a packet of a connection whose backend is down: a RST that its client believes.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::checksum::fold;
use lb_common::flow::FlowKey;
use lb_common::reason::Reason;

use crate::miss::Answer;
use crate::outcome::Outcome;
use crate::packet::{Control, Ethernet, PROTOCOL_TCP, Packet, Tcp, at};

/// What becomes of a packet that is not sent on.
#[inline(always)]
pub(crate) fn or_reason<A: Control>(ctx: &XdpContext, decided: Answer) -> Outcome {
    if decided.is_reset() {
        Outcome::because(if answer::<A>(ctx.ctx) { Reason::Reset } else { Reason::NoBackend })
    } else {
        Outcome::by_reason(decided.reason())
    }
}

/// Turns the packet into the answer, and says whether there is one: none to a RST.
#[inline(always)]
fn answer<A: Control>(ctx: *mut xdp_md) -> bool {
    (if A::IS_V4 { ek_reset4(ctx) } else { ek_reset6(ctx) }) != 0
}

// Functions of their own: what is rare must not cost the rest registers and stack. Visible outside of the object, so that
// the verifier looks at each once.

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_reset4(ctx: *mut xdp_md) -> u32 {
    u32::from(answered::<V4>(&XdpContext::new(ctx)).is_some())
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_reset6(ctx: *mut xdp_md) -> u32 {
    u32::from(answered::<Addr>(&XdpContext::new(ctx)).is_some())
}

#[inline(always)]
fn answered<A: Control>(ctx: &XdpContext) -> Option<()> {
    let mut why = Reason::Malformed;
    let packet = A::parse(ctx, &mut why)?;
    if !packet.is_tcp() || packet.tcp_flags & Tcp::RST != 0 || !packet.key.source.is_unicast() {
        return None;
    }
    let FlowKey { source, destination, ports, .. } = packet.key;
    let (sequence, acknowledgment, flags) = numbers(&packet);
    let ports = ports.turned();
    let length = size_of::<Ethernet>() + size_of::<A::Header>() + size_of::<Tcp>();
    let cut = length as i32 - (ctx.data_end() - ctx.data()) as i32;
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, cut) } != 0 {
        return None;
    }
    let ethernet = at::<Ethernet>(ctx, 0)?;
    let ip = at::<A::Header>(ctx, size_of::<Ethernet>())?;
    let tcp = at::<Tcp>(ctx, size_of::<Ethernet>() + size_of::<A::Header>())?;
    const OFFSET: u8 = 5 << 4;
    let sum = A::pseudo_sum(destination, source, PROTOCOL_TCP, size_of::<Tcp>() as u16)
        + u64::from(ports.word())
        + u64::from(sequence)
        + u64::from(acknowledgment)
        + u64::from(u16::from_ne_bytes([OFFSET, flags]));
    // SAFETY: `at` compared each header with the new end of the packet.
    unsafe {
        (*ethernet).turn();
        *ip = A::header(destination, source, PROTOCOL_TCP, size_of::<Tcp>() as u16);
        *tcp = Tcp {
            source: ports.source,
            destination: ports.destination,
            sequence,
            acknowledgment,
            offset: OFFSET,
            flags,
            window: 0,
            checksum: !fold(sum),
            urgent: 0,
        };
    }
    Some(())
}

/// Sequence and acknowledgment number, in network order, and flags (RFC 9293 section 3.10.7.1). What a client acknowledges
/// is what it expects next, and a RST of just that number ends its connection at once (RFC 5961 section 3.2).
#[inline(always)]
fn numbers<A: Control>(packet: &Packet<A>) -> (u32, u32, u8) {
    let flags = packet.tcp_flags;
    // SAFETY: parsing compared both headers with the end of the packet.
    let tcp = unsafe { *packet.tcp() };
    if flags & Tcp::ACK != 0 {
        return (tcp.acknowledgment, 0, Tcp::RST);
    }
    let header = packet.transport as usize - packet.ip as usize + (usize::from(tcp.offset >> 4) << 2);
    let length = packet.ip_length.wrapping_sub(header as u32)
        + u32::from(flags & Tcp::SYN != 0)
        + u32::from(flags & Tcp::FIN != 0);
    (0, u32::from_be(tcp.sequence).wrapping_add(length).to_be(), Tcp::RST | Tcp::ACK)
}
