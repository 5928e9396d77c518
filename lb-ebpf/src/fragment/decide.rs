//! Where a packet goes, by the scratch record alone.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::addr::Addr;
use lb_common::flow::{self, REPLY, Slot};
use lb_common::reason::Reason;
use lb_common::service::Method;

use super::{Kind, piece};
use crate::balance::state::touch;
use crate::balance::way_back::follow_return_hop;
use crate::maps::{addresses, backends, flows, fragments, scratch};
use crate::miss::{self, Answer, Asked, asked};
use crate::packet::Family;

/// What is known of the packet's flow, or of the first fragment of its packet; [`Answer::UNKNOWN`] and [`Answer::LOST`] are
/// left to [`crate::miss`].
#[inline(always)]
pub(super) fn known<A: Family>() -> Answer {
    let (Some(piece), Some((packet, decision))) = (piece(), asked::<A>()) else {
        return Answer::because(Reason::Internal);
    };
    if piece.kind == Kind::LATER {
        return later();
    }
    // A SYN is decided by its service.
    if packet.is_syn() {
        return Answer::UNKNOWN;
    }
    let Some(slot) = flows::look_up(packet.key) else {
        return Answer::UNKNOWN;
    };
    // SAFETY: a slot stays readable until this program ends.
    if unsafe { (*slot).state } & REPLY != 0 {
        return miss::reply(&packet, slot);
    }
    forward_half(&packet, slot, decision)
}

#[inline(always)]
fn forward_half<A: Family>(
    packet: &Asked<'_, A>,
    slot: *mut Slot<A>,
    decision: &mut scratch::Decision,
) -> Answer {
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, other) = unsafe { ((*slot).state, (*slot).place, (*slot).other) };
    let (method, number) = (flow::method(state), flow::backend(place));
    let Some(backend) = backends::get(number) else {
        return Answer::because(Reason::Internal);
    };
    if !backends::serves(backend, other.as_ref()[0]) {
        return Answer::LOST;
    }
    if method == Method::NAT || method == Method::FULL_NAT {
        follow_return_hop(packet.key, slot, backend, packet.request.way_back());
    }
    touch(packet.key, packet.tcp_flags(), slot, state, number);
    (decision.source, decision.source_port) = (other.as_ref()[1], flow::port(state));
    Answer::forward(Reason::Flow, method, number)
}

/// How long the first fragment is remembered, in the unit of its time: 30 seconds, the least that hosts wait for all fragments
/// of a packet (Linux does; RFC 8200 section 4.5 says 60, RFC 1122 section 3.3.2 from 60 on).
const REMEMBERED: u32 = (30_000_000_000_u64 >> UNIT_SHIFT) as u32;
const UNIT_SHIFT: u32 = 20;

/// The monotonic clock in 2^20 nanoseconds.
#[inline(always)]
fn time() -> u32 {
    // SAFETY: the helper only reads the clock.
    (unsafe { bpf_ktime_get_coarse_ns() } >> UNIT_SHIFT) as u32
}

/// Leaves where the first fragment goes to the later ones. Hands the answer back.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_keep_first(word: u32) -> u32 {
    let answer = Answer::from_word(word);
    let (Some(piece), Some(scratch)) = (piece(), scratch::get()) else {
        return word;
    };
    if piece.kind != Kind::FIRST || (!answer.is_forward() && !answer.is_reply()) {
        return word;
    }
    // SAFETY: the record is this CPU's own.
    let (half, decision) = unsafe { (&mut (*scratch).half, &(*scratch).decision) };
    if answer.is_forward() {
        half.address = Addr::from_v4(decision.source);
        half.port = decision.source_port;
        half.state = flow::live(answer.method(), 0, 0);
        half.place = flow::place(answer.backend(), 0);
        half.identity = backends::get(answer.backend()).map_or(0, |backend| backend.identity);
    }
    piece.first.half = *half;
    piece.first.half.since = time();
    fragments::insert(&piece.key, &piece.first);
    word
}

/// Where a later fragment goes: where the first one went.
#[inline(always)]
fn later() -> Answer {
    let (Some(piece), Some(scratch)) = (piece(), scratch::get()) else {
        return Answer::because(Reason::Internal);
    };
    let stray = Answer::because(if addresses::contains(piece.key.destination) {
        Reason::StrayFragment
    } else {
        Reason::NoService
    });
    let Some(first) = fragments::get(&piece.key) else {
        return stray;
    };
    // It would write over the header that the decision was made by (RFC 1858 section 4, RFC 3128).
    if time().wrapping_sub(first.half.since) > REMEMBERED || piece.offset < first.headers {
        return stray;
    }
    piece.first.ports = first.ports;
    // SAFETY: the record is this CPU's own.
    let (half, decision) = unsafe { (&mut (*scratch).half, &mut (*scratch).decision) };
    *half = first.half;
    if half.state & REPLY != 0 {
        return Answer::reply(Reason::Fragment);
    }
    let number = flow::backend(half.place);
    if !backends::get(number).is_some_and(|backend| backends::serves(backend, half.identity)) {
        return stray;
    }
    (decision.source, decision.source_port) = (half.address.v4(), half.port);
    Answer::forward(Reason::Fragment, flow::method(half.state), number)
}
