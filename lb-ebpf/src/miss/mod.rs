//! A packet whose flow is not in the table: service, scheduler, state.
//!
//! One packet proves nothing about its sender, so a flow enters the flow table with the second packet of its client. The
//! first leaves a fingerprint, which costs a flood a store of four bytes each. Only what no table could tell again enters
//! the table of half-open flows, where a flood pushes out other half-open flows: with `nat` the reply half, so that the
//! reply finds its way back; the forward half where the scheduler would choose another backend the next time.
//!
//! A bare SYN to a service whose flows are where its table says is forwarded without a look at the flow table, and with
//! `tunnel` and `direct` leaves no state but its fingerprint: the next packet finds the same backend by the same hash.
//! While a pool is changing, that packet goes by the previous table, and SYNs that the new table moves are remembered.

mod admit;
mod answer;
mod asked;
mod choose;
mod forget;
mod full_nat;
mod quic;
mod recall;
mod reply;
mod store;

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::flow::FlowKey;
use lb_common::hash::flow_hash;
use lb_common::reason::Reason;
use lb_common::service::{MOVED, Method, NO_TABLE, PER_PACKET, RESET, Scheduler, Service};

pub(crate) use admit::is_let_in;
pub(crate) use answer::Answer;
pub(crate) use asked::{Asked, asked};
pub(crate) use choose::{NO_BACKEND, entry_of, is_told, told};
pub(crate) use reply::reply;

use self::forget::{forget, mark_reset};
use self::recall::recall;
use self::reply::half_open_reply;
use crate::balance::elsewhere;
use crate::balance::way_back::return_hop;
use crate::maps::scratch::{self, Decision};
use crate::maps::{backends, hops, listeners, seen, services};
use crate::packet::{Control, Family, Packet, Udp, again};

/// The steps of a decision by family, one after another: what is known, the scheduler's choice, what is remembered. They take
/// the packet in the scratch record and leave there what they decide. They are visible outside of the object, so that the
/// verifier looks at each by itself ("Function by function verification" in Documentation/bpf/bpf_design_QA.rst).
pub(crate) trait Called: Control {
    fn begin(lost: u32) -> u32;
    fn choose() -> u32;
    fn store() -> u32;
}

macro_rules! called {
    ($address:ty, $begin:ident, $choose:ident, $store:ident) => {
        impl Called for $address {
            #[inline(always)]
            fn begin(lost: u32) -> u32 {
                $begin(lost)
            }

            #[inline(always)]
            fn choose() -> u32 {
                $choose()
            }

            #[inline(always)]
            fn store() -> u32 {
                $store()
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $begin(lost: u32) -> u32 {
            begin::<$address>(lost != 0).0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $choose() -> u32 {
            choose::<$address>().0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $store() -> u32 {
            store::<$address>().0
        }
    };
}

called!(V4, ek_begin4, ek_choose4, ek_store_flow4);
called!(Addr, ek_begin6, ek_choose6, ek_store_flow6);

/// What to do with a packet whose flow is not known, or whose flow's backend serves no more (`lost`).
#[inline(always)]
pub(crate) fn ask<A: Called>(ctx: &XdpContext, packet: &Packet<A>, tags: u32, lost: bool) -> Answer {
    let Some(scratch) = scratch::get() else {
        return Answer::because(Reason::Internal);
    };
    // SAFETY: the record is this CPU's own; a key of either family has room in it.
    unsafe {
        let request = &mut (*scratch).request;
        (&raw mut request.key).cast::<FlowKey<A>>().write(packet.key);
        request.back = hops::words(&return_hop(ctx, packet.ethernet, tags));
        request.tcp_flags = u32::from(packet.tcp_flags);
        request.head = [0; 2];
        if !packet.is_tcp() {
            let payload = (packet.transport as usize + size_of::<Udp>()) as *mut [u64; 2];
            if let Some(head) = again(ctx, payload) {
                request.head = *head;
            }
        }
    }
    decide::<A>(lost)
}

/// What to do with the packet in the scratch record.
#[inline(always)]
pub(crate) fn decide<A: Called>(lost: bool) -> Answer {
    let mut answer = A::begin(u32::from(lost));
    if answer == Answer::CHOOSE {
        answer = A::choose();
    }
    if answer == Answer::STORE {
        answer = A::store();
    }
    Answer(answer)
}

/// The service that listens on an address and port.
#[inline(always)]
pub(crate) fn listener<A: Family>(address: A, port: u16, protocol: u8) -> u32 {
    // Under port 0 are ranges and no service, and a range that is none would hold it.
    if port == 0 {
        return listeners::NONE;
    }
    let exact = A::listener(address, port, protocol);
    if exact != listeners::NONE {
        return exact;
    }
    let ranged = A::listener(address, 0, protocol);
    if ranged == listeners::NONE { listeners::NONE } else { listeners::in_ranges(ranged, port) }
}

#[inline(always)]
fn begin<A: Family>(lost: bool) -> Answer {
    let Some((packet, decision)) = asked::<A>() else {
        return Answer::because(Reason::Internal);
    };
    let key = packet.key;
    let number = listener(key.destination, key.ports.destination, key.protocol as u8);
    let Some(service) = services::get(number) else {
        return if lost { Answer::because(Reason::NoBackend) } else { half_open_reply(&packet) };
    };
    if !packet.is_for_this_host() {
        return Answer::because(elsewhere(packet.request.way_back().source));
    }
    if lost {
        // A fingerprint says that the client began anew, by a SYN that did not ask for the flow.
        let anew = packet.is_bare_syn() || seen::contains(flow_hash(packet.key));
        if service.flags & RESET != 0 && packet.is_tcp() && !anew {
            mark_reset(&packet);
            return Answer(Reason::Reset as u32 | Answer::RESET);
        }
        forget(&packet);
    }
    if !is_let_in(key.source, number, service) {
        return Answer::because(Reason::Denied);
    }
    *decision = Decision {
        hash: flow_hash(key),
        service: number,
        backend: NO_BACKEND,
        entry: 0,
        source: 0,
        source_port: 0,
        zero: 0,
        known: false,
        known_flow: false,
        remember: false,
        by_id: false,
    };
    if service.flags & PER_PACKET == 0 && !is_stateless(&packet, service) {
        recall(&packet, service, decision);
    }
    Answer(if decision.backend == NO_BACKEND { Answer::CHOOSE } else { Answer::STORE })
}

#[inline(always)]
fn choose<A: Family>() -> Answer {
    let Some((packet, decision)) = asked::<A>() else {
        return Answer::because(Reason::Internal);
    };
    let number = decision.service;
    let Some(service) = services::get(number) else {
        return Answer::because(Reason::Internal);
    };
    if (packet.is_bare_syn() || !seen::contains(decision.hash))
        && let Err(reason) = admit::limited(&packet, number, service)
    {
        return Answer::because(reason);
    }
    if service.quic_length != 0 && !packet.is_tcp() {
        let backend = quic::named(packet.request, number, service);
        if backend != NO_BACKEND {
            choose::count(service, backend);
            (decision.backend, decision.by_id, decision.remember) = (backend, true, true);
            return Answer(Answer::STORE);
        }
    }
    match choose::choose(&packet, number, service, decision) {
        Ok(()) => Answer(Answer::STORE),
        Err(reason) => Answer::because(reason),
    }
}

#[inline(always)]
fn store<A: Family>() -> Answer {
    let Some((packet, decision)) = asked::<A>() else {
        return Answer::because(Reason::Internal);
    };
    let number = decision.service;
    let (Some(service), Some(backend)) = (services::get(number), backends::get(decision.backend)) else {
        return Answer::because(Reason::Internal);
    };
    let reason = if decision.known_flow {
        Ok(Reason::Flow)
    } else if service.flags & PER_PACKET != 0 {
        store::per_packet(&packet, number, service, backend, decision)
    } else {
        store::store(&packet, number, service, backend, decision)
    };
    match reason {
        Ok(reason) => Answer::forward(reason, u32::from(service.method), decision.backend),
        Err(reason) => Answer::because(reason),
    }
}

/// Whether the packet is a SYN that the service's table alone decides.
#[inline(always)]
fn is_stateless<A: Family>(packet: &Asked<'_, A>, service: &Service) -> bool {
    packet.is_bare_syn()
        && service.flags & MOVED == 0
        && Scheduler::is_hash(service.scheduler)
        && (service.method == Method::Tunnel as u8 || service.method == Method::Direct as u8)
}

/// Whether the service's table has changed so lately that connections may still be opening by the previous one.
#[inline(always)]
const fn is_turning(service: &Service) -> bool {
    service.previous != NO_TABLE
}
