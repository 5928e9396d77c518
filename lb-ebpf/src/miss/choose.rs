//! The scheduler's choice.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lb_common::backend::SERVING;
use lb_common::flow::FlowKey;
use lb_common::hash::{flow_hash, source_hash, table_entry};
use lb_common::limits::TABLE_ENTRIES;
use lb_common::reason::Reason;
use lb_common::service::{CAPPED, ClientKey, FEW, NO_TABLE, PER_PACKET, Persistent, Scheduler, Service};

use super::{Asked, is_turning};
use crate::clock::now;
use crate::globals;
use crate::maps::scratch::Decision;
use crate::maps::{backends, load, members, persistent, seen, tables, turns};
use crate::packet::{Family, PROTOCOL_TCP};

/// A number that the map of backends does not have. Numbers and no pointers: what the compiler merges from several
/// branches, the verifier must still know.
pub(crate) const NO_BACKEND: u32 = u32::MAX;

#[inline(always)]
pub(super) fn choose<A: Family>(
    packet: &Asked<'_, A>,
    number: u32,
    service: &Service,
    decision: &mut Decision,
) -> Result<(), Reason> {
    decision.backend =
        if service.persistence != 0 { persistent(packet.key.source, number, service) } else { NO_BACKEND };
    if decision.backend == NO_BACKEND {
        scheduled(packet, number, service, decision);
        if decision.backend == NO_BACKEND {
            return Err(Reason::NoBackend);
        }
    }
    if service.flags & CAPPED != 0 {
        decision.backend = ek_not_full(decision.backend, service.table, decision.entry);
        if decision.backend == NO_BACKEND {
            return Err(Reason::BackendLimit);
        }
        decision.remember = true;
    }
    if service.persistence != 0 {
        persist(packet.key.source, number, service, decision.backend);
    }
    if !Scheduler::is_hash(service.scheduler) {
        decision.remember = true;
    }
    count(service, decision.backend);
    Ok(())
}

/// Counts a flow more for the backend, where the service has a use for that.
#[inline(always)]
pub(super) fn count(service: &Service, backend: u32) {
    if !Scheduler::is_hash(service.scheduler) || service.flags & CAPPED != 0 {
        load::add(backend, 1);
    }
}

#[inline(always)]
fn scheduled<A: Family>(packet: &Asked<'_, A>, number: u32, service: &Service, decision: &mut Decision) {
    if Scheduler::is_hash(service.scheduler) {
        // It has begun before: a packet that is no SYN, or, of UDP, one after another.
        let midway = !packet.is_bare_syn() && (packet.is_tcp() || seen::contains(decision.hash));
        decision.entry = entry_of(service, packet.key.source, decision.hash);
        let (backend, moves) = by_table(service, decision.entry, midway);
        decision.backend = backend;
        decision.remember = moves;
        return;
    }
    if service.scheduler == Scheduler::LeastConnections as u8 {
        decision.backend = ek_least_loaded(number, service.table);
        return;
    }
    if service.scheduler == Scheduler::Overflow as u8 {
        decision.backend = ek_first_not_full(number);
        return;
    }
    decision.entry = if service.scheduler == Scheduler::Turn as u8 {
        turns::next(number) % TABLE_ENTRIES
    } else {
        table_entry(random())
    };
    decision.backend = pick(service.table, decision.entry);
}

/// Whether a service sends all packets of a flow to one backend without knowing the flow.
#[inline(always)]
pub(crate) const fn is_told(service: &Service) -> bool {
    Scheduler::is_hash(service.scheduler) && service.flags & PER_PACKET == 0
}

/// That backend, or [`NO_BACKEND`], for a flow that has begun.
#[inline(always)]
pub(crate) fn told<A: Family>(key: &FlowKey<A>, number: u32, service: &Service) -> u32 {
    if service.persistence != 0 {
        let backend = persistent(key.source, number, service);
        if backend != NO_BACKEND {
            return backend;
        }
    }
    let entry = entry_of(service, key.source, flow_hash(key));
    by_table(service, entry, key.protocol == u32::from(PROTOCOL_TCP)).0
}

/// The entry of its tables that a flow of a service with a hash scheduler is at.
#[inline(always)]
pub(crate) fn entry_of<A: Family>(service: &Service, source: A, flow_hash: u64) -> u32 {
    let by_flow = service.scheduler == Scheduler::Flow as u8;
    table_entry(if by_flow { (flow_hash >> 32) as u32 } else { source_hash(source) })
}

/// The backend at an entry, and whether the table in force and the one before disagree about it. A connection that is
/// `midway` goes by the one before.
#[inline(always)]
pub(super) fn by_table(service: &Service, entry: u32, midway: bool) -> (u32, bool) {
    let current = pick(service.table, entry);
    if !is_turning(service) {
        return (current, false);
    }
    let previous = pick(service.previous, entry);
    let backend = if midway && previous != NO_BACKEND { previous } else { current };
    (backend, current != previous)
}

#[inline(always)]
fn pick(table: u32, entry: u32) -> u32 {
    if table == NO_TABLE {
        return NO_BACKEND;
    }
    match tables::get(table, entry) {
        Some(number) if serves(number) => number,
        _ => NO_BACKEND,
    }
}

/// Whether flows may go to the backend.
#[inline(always)]
pub(super) fn serves(number: u32) -> bool {
    backends::get(number).is_some_and(|backend| backend.flags & SERVING != 0)
}

#[inline(always)]
pub(super) fn is_full(number: u32) -> bool {
    backends::get(number).is_none_or(|backend| load::is_full(number, backend))
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper only hands out a number.
    unsafe { bpf_get_prandom_u32() }
}

// What follows takes and returns numbers only, and is visible outside of the object, so that the verifier looks at it once.

/// The chosen backend, or one of the next entries of the table if it is full.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_not_full(backend: u32, table: u32, entry: u32) -> u32 {
    if !is_full(backend) {
        return backend;
    }
    let mut entry = entry;
    for _ in 0..globals::ways() {
        // Far apart, for neighbours in a table of turns are neighbours in time; the number of entries is prime.
        entry = (entry + 40_503) % TABLE_ENTRIES;
        let number = pick(table, entry);
        if number != NO_BACKEND && !is_full(number) {
            return number;
        }
    }
    NO_BACKEND
}

/// The least loaded for its weight: of all, if they are few; of two at random otherwise, which is nearly as good
/// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_least_loaded(service: u32, table: u32) -> u32 {
    let Some(members) = members::get(service) else {
        return NO_BACKEND;
    };
    if members.count == 0 || members.count > FEW {
        let (a, b) = (pick(table, table_entry(random())), pick(table, table_entry(random())));
        if a == NO_BACKEND || b == NO_BACKEND {
            return if a == NO_BACKEND { b } else { a };
        }
        return lighter(a, b);
    }
    let mut best = NO_BACKEND;
    for at in 0..globals::ways() {
        if at >= u32::from(members.count) {
            break;
        }
        let other = u32::from(members.backends[at as usize & (FEW as usize - 1)]);
        if serves(other) {
            best = if best == NO_BACKEND { other } else { lighter(best, other) };
        }
    }
    best
}

/// The first in the order of the configuration that takes another flow; the last one has no limit.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_first_not_full(service: u32) -> u32 {
    let Some(members) = members::get(service) else {
        return NO_BACKEND;
    };
    for at in 0..globals::ways() * 4 {
        if at >= u32::from(members.count) {
            break;
        }
        let Some(backend) = members.backends.get(at as usize) else {
            break;
        };
        let backend = u32::from(*backend);
        if serves(backend) && !is_full(backend) {
            return backend;
        }
    }
    NO_BACKEND
}

/// The one with fewer flows for its weight, the flow that is coming counted in; the first if they are equal.
#[inline(always)]
fn lighter(a: u32, b: u32) -> u32 {
    let (Some(first), Some(second)) = (backends::get(a), backends::get(b)) else {
        return a;
    };
    let first_load = (u64::from(load::active(a)) + 1) * u64::from(second.weight);
    let second_load = (u64::from(load::active(b)) + 1) * u64::from(first.weight);
    if second_load < first_load { b } else { a }
}

/// The source, as far as persistence and limits tell sources apart.
#[inline(always)]
pub(super) fn client<A: Family>(source: A, service: u32, prefix: u8) -> ClientKey {
    let mut words = source.mapped().words();
    let mut left = u32::from(prefix);
    for word in &mut words {
        let bits = if left >= 32 { 32 } else { left };
        let mask = if bits == 0 { 0 } else { u32::MAX << ((32 - bits) & 31) };
        *word &= mask.to_be();
        left -= bits;
    }
    ClientKey { address: lb_common::addr::Addr::from_words(words), service }
}

#[inline(always)]
fn persistent<A: Family>(source: A, number: u32, service: &Service) -> u32 {
    let Some(known) = persistent::get(&client(source, number, service.persistence_prefix)) else {
        return NO_BACKEND;
    };
    let fresh = now().wrapping_sub(known.last) < service.persistence;
    // One that takes no new flows keeps its sources no longer.
    let takes = backends::get(known.backend)
        .is_some_and(|backend| backends::serves(backend, known.identity) && backend.weight != 0);
    if fresh && takes { known.backend } else { NO_BACKEND }
}

#[inline(always)]
fn persist<A: Family>(source: A, number: u32, service: &Service, backend: u32) {
    if let Some(record) = backends::get(backend) {
        let value = Persistent { backend, identity: record.identity, last: now() };
        persistent::insert(&client(source, number, service.persistence_prefix), &value);
    }
}
