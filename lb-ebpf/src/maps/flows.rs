//! The flow tables: arrays of sets of slots, one for each family. See [`lb_common::flow`] for who writes what.
//!
//! Nothing is evicted: entries go in and out in pairs, and user space lets them expire, so no flood takes an established
//! flow away and the two halves of a `nat` flow can't lose each other.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::addr::{Addr, Address, V4};
use lb_common::flow::{self, CLAIMED, FlowKey, LIVE, Set, Slot, UDP, WAYS};
use lb_common::hash::slot_hash;
use lb_common::limits;

use super::MAPPED;
use crate::atomic::Word;
use crate::globals;

#[btf_map(name = "ek_flows4")]
static FLOWS4: Array<Set<V4>, { limits::SETS4 as usize }, MAPPED> = Array::new();

#[btf_map(name = "ek_flows6")]
static FLOWS6: Array<Set<Addr>, { limits::SETS6 as usize }, MAPPED> = Array::new();

/// A table by family.
pub(crate) trait Table: Address {
    fn set(number: u32) -> Option<*mut Set<Self>>;
    /// Number of sets less one, which is a power of two less one.
    fn mask() -> u32;
    /// As [`look_up`], as a function of its own.
    fn search(key: &FlowKey<Self>) -> Option<*mut Slot<Self>>;
    /// As [`insert`], as a function of its own.
    fn store(key: &FlowKey<Self>, entry: &Entry<Self>) -> u32;
}

impl Table for V4 {
    #[inline(always)]
    fn set(number: u32) -> Option<*mut Set<Self>> {
        FLOWS4.get_ptr_mut(number)
    }

    #[inline(always)]
    fn mask() -> u32 {
        globals::sets4_mask()
    }

    #[inline(never)]
    fn search(key: &FlowKey<Self>) -> Option<*mut Slot<Self>> {
        in_sets(key)
    }

    #[inline(never)]
    fn store(key: &FlowKey<Self>, entry: &Entry<Self>) -> u32 {
        claim(key, entry)
    }
}

impl Table for Addr {
    #[inline(always)]
    fn set(number: u32) -> Option<*mut Set<Self>> {
        FLOWS6.get_ptr_mut(number)
    }

    #[inline(always)]
    fn mask() -> u32 {
        globals::sets6_mask()
    }

    #[inline(never)]
    fn search(key: &FlowKey<Self>) -> Option<*mut Slot<Self>> {
        in_sets(key)
    }

    #[inline(never)]
    fn store(key: &FlowKey<Self>, entry: &Entry<Self>) -> u32 {
        claim(key, entry)
    }
}

/// What a half says beside its key: see [`Slot`].
pub(crate) struct Entry<A: Address> {
    pub(crate) state: u32,
    pub(crate) last_seen: u32,
    pub(crate) place: u32,
    pub(crate) other: A::Other,
}

/// The slot of a live half, to be read and written in place. CPUs write `last_seen`, `state`'s bits and `place` without
/// a lock: each is written whole. The slot does not become another flow's before this program ends.
///
/// Most flows are where they are looked for first; that is inlined.
#[inline(always)]
pub(crate) fn find<A: Table>(key: &FlowKey<A>) -> Option<*mut Slot<A>> {
    let hash = slot_hash(key, globals::flow_seed());
    let [first, _] = flow::sets(hash, A::mask());
    let set = A::set(first)?.cast::<Slot<A>>();
    // SAFETY: the way is masked to one of the set.
    let slot = unsafe { set.add(flow::home(hash) as usize & (WAYS as usize - 1)) };
    if holds(slot, key) { Some(slot) } else { A::search(key) }
}

/// As [`find`], for what is not the path of a known flow.
#[inline(always)]
pub(crate) fn look_up<A: Table>(key: &FlowKey<A>) -> Option<*mut Slot<A>> {
    A::search(key)
}

/// Whether the slot is this half's, and live: what another CPU is just filling is not.
#[inline(always)]
fn holds<A: Table>(slot: *mut Slot<A>, key: &FlowKey<A>) -> bool {
    let wanted = LIVE | if key.protocol == 17 { UDP } else { 0 };
    // SAFETY: an element of an array stays readable.
    unsafe {
        (*slot).ports == key.ports.word()
            && (*slot).source == key.source
            && (*slot).destination == key.destination
            && (*slot).state & (LIVE | UDP) == wanted
    }
}

#[inline(always)]
fn in_sets<A: Table>(key: &FlowKey<A>) -> Option<*mut Slot<A>> {
    let hash = slot_hash(key, globals::flow_seed());
    let [first, second] = flow::sets(hash, A::mask());
    match in_set(key, first, flow::home(hash)) {
        Some(slot) => Some(slot),
        None => in_set(key, second, flow::home(hash)),
    }
}

#[inline(always)]
fn in_set<A: Table>(key: &FlowKey<A>, set: u32, home: u32) -> Option<*mut Slot<A>> {
    let set = A::set(set)?.cast::<Slot<A>>();
    for step in 0..globals::ways() {
        // SAFETY: the way is masked to one of the set.
        let slot = unsafe { set.add((home ^ step) as usize & (WAYS as usize - 1)) };
        if holds(slot, key) {
            return Some(slot);
        }
    }
    None
}

/// No slot was free.
pub(crate) const FULL: u32 = u32::MAX;

/// Stores a half that is not there; returns the number of its slot, or [`FULL`].
#[inline(always)]
pub(crate) fn insert<A: Table>(key: &FlowKey<A>, entry: &Entry<A>) -> u32 {
    A::store(key, entry)
}

#[inline(always)]
fn claim<A: Table>(key: &FlowKey<A>, entry: &Entry<A>) -> u32 {
    let hash = slot_hash(key, globals::flow_seed());
    let [first, second] = flow::sets(hash, A::mask());
    match claim_in(key, entry, first, flow::home(hash)) {
        FULL => claim_in(key, entry, second, flow::home(hash)),
        slot => slot,
    }
}

#[inline(always)]
fn claim_in<A: Table>(key: &FlowKey<A>, entry: &Entry<A>, set: u32, home: u32) -> u32 {
    let Some(slots) = A::set(set) else {
        return FULL;
    };
    let slots = slots.cast::<Slot<A>>();
    for step in 0..globals::ways() {
        let way = (home ^ step) as usize & (WAYS as usize - 1);
        // SAFETY: the way is masked to one of the set.
        let slot = unsafe { slots.add(way) };
        let word = word(slot);
        if word.load() != 0 || !word.replace(0, halves(0, CLAIMED)) {
            continue;
        }
        // SAFETY: an element of an array stays writable; the slot is claimed, so nobody else writes it.
        unsafe {
            (*slot).source = key.source;
            (*slot).destination = key.destination;
            (*slot).last_seen = entry.last_seen;
            (*slot).place = entry.place;
            (*slot).other = entry.other;
        }
        word.publish(halves(key.ports.word(), entry.state));
        return set * WAYS + way as u32;
    }
    FULL
}

/// Takes a half out of use; user space frees its slot.
#[inline(always)]
pub(crate) fn kill<A: Address>(slot: *mut Slot<A>) {
    clear(slot, LIVE);
}

/// Takes a half out of use if it is there.
#[inline(always)]
pub(crate) fn remove<A: Table>(key: &FlowKey<A>) {
    if let Some(slot) = look_up(key) {
        kill(slot);
    }
}

/// Sets bits of a slot's state, whatever another CPU or user space does to others.
#[inline(always)]
pub(crate) fn set<A: Address>(slot: *mut Slot<A>, bits: u32) {
    word(slot).set(halves(0, bits));
}

#[inline(always)]
pub(crate) fn clear<A: Address>(slot: *mut Slot<A>, bits: u32) {
    word(slot).clear(halves(0, bits));
}

/// The ports and the state of a slot in one word: BPF has atomic operations on 64 bits.
#[inline(always)]
fn word<A: Address>(slot: *mut Slot<A>) -> Word {
    // SAFETY: a slot stays writable until this program ends. Both are beside each other, in a word that is aligned, for
    // either family.
    unsafe { Word::new((&raw mut (*slot).ports).cast()) }
}

/// That word, as it lies in memory.
#[inline(always)]
const fn halves(ports: u32, state: u32) -> u64 {
    if cfg!(target_endian = "big") {
        (ports as u64) << 32 | state as u64
    } else {
        (state as u64) << 32 | ports as u64
    }
}

/// A slot by its number, if it is live.
#[inline(always)]
pub(crate) fn get<A: Table>(number: u32) -> Option<*mut Slot<A>> {
    let set = A::set(number / WAYS)?.cast::<Slot<A>>();
    // SAFETY: the way is masked to one of the set.
    let slot = unsafe { set.add(number as usize & (WAYS as usize - 1)) };
    // SAFETY: an element of an array stays readable.
    if unsafe { (*slot).state } & LIVE == 0 { None } else { Some(slot) }
}
