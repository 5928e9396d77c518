//! The flow tables: arrays of sets of slots, one for each family. See [`lb_common::flow`] for who writes what.
//!
//! Nothing is evicted: entries go in and out in pairs, and user space lets them expire, so no flood takes an established
//! flow away and the two halves of a `nat` flow can't lose each other.

mod family;

use core::hint::black_box;

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::addr::{Address, V4};
use lb_common::extent;
use lb_common::flow::{self, CLAIMED, FlowKey, LIVE, Slot, UDP, VERSION, VERSION_SHIFT, WAYS};
use lb_common::hash::slot_hash;

pub(crate) use self::family::Table;
use super::{MAPPED, scratch};
use crate::atomic::Word;
use crate::globals;
use crate::packet::PROTOCOL_UDP;

/// [`lb_common::extent`], a word for each table: IPv4, IPv6.
#[btf_map(name = "ek_extents")]
static EXTENTS: Array<u64, 2, MAPPED> = Array::new();

/// No slot has this number: the key is not there, or none was free.
pub(crate) const NONE: u32 = u32::MAX;

/// The slot of a live half, to be read and written in place. CPUs write `last_seen`, `state`'s bits and `place` without
/// a lock: each is written whole. The slot does not become another flow's before this program ends.
///
/// Most flows are where they are looked for first, or beside that in the same cache line; that is inlined.
#[inline(always)]
pub(crate) fn find<A: Table>(key: &FlowKey<A>) -> Option<*mut Slot<A>> {
    let hash = slot_hash(key, globals::flow_seed());
    let [first, _] = extent::sets(hash, A::base(), extent::part(extent_of::<A>()?.load()));
    let set = A::set(first)?.cast::<Slot<A>>();
    // SAFETY: the ways are masked to some of the set.
    let [home, beside] =
        [0, 1].map(|step| unsafe { set.add((flow::home(hash) ^ step) as usize & (WAYS as usize - 1)) });
    if holds(home, key) {
        Some(home)
    } else if holds(beside, key) {
        Some(beside)
    } else {
        look_up(key)
    }
}

/// As [`find`], for what is not the path of a known flow.
#[inline(always)]
pub(crate) fn look_up<A: Table>(key: &FlowKey<A>) -> Option<*mut Slot<A>> {
    get(A::search(key))
}

/// Whether the slot is this half's, and live: what another CPU is just filling is not. State and ports are read first, for a
/// slot that is live does not change its key.
#[inline(always)]
fn holds<A: Table>(slot: *mut Slot<A>, key: &FlowKey<A>) -> bool {
    let state = LIVE | if key.protocol == u32::from(PROTOCOL_UDP) { UDP } else { 0 };
    let wanted = halves(key.ports.word(), state);
    // SAFETY: an element of an array stays readable.
    unsafe {
        word(slot).load() & halves(u32::MAX, LIVE | UDP) == wanted
            && (*slot).source == key.source
            && (*slot).destination == key.destination
    }
}

#[inline(always)]
fn extent_of<A: Table>() -> Option<Word> {
    let word = EXTENTS.get_ptr_mut(A::EXTENT)?;
    // SAFETY: an element of an array stays readable and writable, and is aligned.
    Some(unsafe { Word::new(word) })
}

/// In its place, or where it may be while the table grows, or when the part had no room.
#[inline(always)]
fn everywhere<A: Table>(key: &FlowKey<A>) -> u32 {
    let Some(extent) = extent_of::<A>() else {
        return NONE;
    };
    let extent = extent.load();
    let slot = A::search_at(key, extent::part(extent));
    if slot != NONE || !extent::has_elsewhere(extent) {
        return slot;
    }
    // What spilled did so to the last level first.
    let mut level = A::levels();
    while level > 0 {
        let before = level - 1;
        if extent::is_former(extent, before) {
            let slot = A::search_at(key, extent::part_of(before));
            if slot != NONE {
                return slot;
            }
        }
        if extent::has_beyond(extent, level) {
            let slot = A::search_at(key, extent::beyond(level));
            if slot != NONE {
                return slot;
            }
        }
        level = before;
    }
    NONE
}

#[inline(always)]
fn in_either<A: Table>(key: &FlowKey<A>, at: u32) -> u32 {
    let hash = slot_hash(key, globals::flow_seed());
    // Known before the first is searched: what they are worked out from would take up four times as much stack meanwhile.
    let [first, second] = black_box(extent::sets_at(hash, A::base(), at));
    match in_set(key, first, flow::home(hash)) {
        NONE => in_set(key, second, flow::home(hash)),
        slot => slot,
    }
}

#[inline(always)]
fn in_set<A: Table>(key: &FlowKey<A>, set: u32, home: u32) -> u32 {
    let Some(slots) = A::set(set) else {
        return NONE;
    };
    for step in 0..globals::ways() {
        let way = (home ^ step) & (WAYS - 1);
        // SAFETY: the way is masked to one of the set.
        if holds(unsafe { slots.cast::<Slot<A>>().add(way as usize) }, key) {
            return set * WAYS + way;
        }
    }
    NONE
}

/// Stores a half that is not there; returns the number of its slot, or [`NONE`] if the table has no room for it.
#[inline(always)]
pub(crate) fn insert<A: Table>(
    key: &FlowKey<A>,
    state: u32,
    last_seen: u32,
    place: u32,
    other: &A::Other,
) -> u32 {
    let Some(scratch) = scratch::get() else {
        return NONE;
    };
    // SAFETY: the record is this CPU's own.
    unsafe {
        (*scratch).state = state;
        (*scratch).last_seen = last_seen;
        (*scratch).place = place;
        (&raw mut (*scratch).other).cast::<A::Other>().write(*other);
    }
    enter(key)
}

/// Stores the half whose other fields are in the scratch record.
#[inline(always)]
fn enter<A: Table>(key: &FlowKey<A>) -> u32 {
    let Some(extent) = extent_of::<A>() else {
        return NONE;
    };
    let before = extent.load();
    let part = extent::part(before);
    let mut slot = A::enter_at(key, part);
    let mut level = A::levels();
    while slot == NONE && part < extent::part_of(level) {
        // Before the half is there: user space then either sees that it has to look for it, or finds it where it looks. Not if
        // it is set, for every packet reads this word: user space clears it a grace period before it looks.
        let spilling = extent::spilling(level);
        if before & spilling != spilling {
            extent.set(spilling);
        }
        slot = A::enter_at(key, extent::beyond(level));
        level -= 1;
    }
    slot
}

#[inline(always)]
fn claim<A: Table>(key: &FlowKey<A>, at: u32) -> u32 {
    let hash = slot_hash(key, globals::flow_seed());
    let [mut first, mut second] = extent::sets_at(hash, A::base(), at);
    if flow::prefers_second(in_use::<A>(first), in_use::<A>(second)) {
        (first, second) = (second, first);
    }
    match claim_in(key, first, flow::home(hash)) {
        NONE => claim_in(key, second, flow::home(hash)),
        slot => slot,
    }
}

const _: () = assert!(VERSION & 1 == 1);

/// Slots of a set that are filled.
#[inline(always)]
fn in_use<A: Table>(set: u32) -> u32 {
    let Some(slots) = A::set(set) else {
        return WAYS;
    };
    let mut used = 0;
    for way in 0..globals::ways() {
        // SAFETY: the way is masked to one of the set.
        let slot = unsafe { slots.cast::<Slot<A>>().add((way & (WAYS - 1)) as usize) };
        // SAFETY: an element of an array stays readable.
        let state = unsafe { (&raw const (*slot).state).read_volatile() };
        // What is filled has a version. Without a branch, which would double what the verifier has to look at each time.
        used += state >> VERSION_SHIFT & 1;
    }
    used
}

#[inline(always)]
fn claim_in<A: Table>(key: &FlowKey<A>, set: u32, home: u32) -> u32 {
    let (Some(slots), Some(scratch)) = (A::set(set), scratch::get()) else {
        return NONE;
    };
    for step in 0..globals::ways() {
        let way = (home ^ step) & (WAYS - 1);
        // SAFETY: the way is masked to one of the set.
        let slot = unsafe { slots.cast::<Slot<A>>().add(way as usize) };
        let word = word(slot);
        if word.load() != 0 || !word.replace(0, halves(0, CLAIMED)) {
            continue;
        }
        // SAFETY: an element of an array stays writable, and the slot is claimed, so nobody else writes it; the scratch
        // record is this CPU's own.
        unsafe {
            (*slot).source = key.source;
            (*slot).destination = key.destination;
            (*slot).last_seen = (*scratch).last_seen;
            (*slot).place = (*scratch).place;
            (*slot).other = (&raw const (*scratch).other).cast::<A::Other>().read();
            word.publish(halves(key.ports.word(), (*scratch).state));
        }
        return set * WAYS + way;
    }
    NONE
}

/// Takes a half out of use; user space frees its slot.
#[inline(always)]
pub(crate) fn kill<A: Address>(slot: *mut Slot<A>) {
    clear(slot, LIVE);
}

/// As [`kill`], and its twin too if user space is just moving halves: it would be found in its place.
#[inline(always)]
pub(crate) fn end<A: Table>(slot: *mut Slot<A>, key: &FlowKey<A>) {
    kill(slot);
    if extent_of::<A>().is_some_and(|extent| extent.load() & extent::MOVING != 0)
        && let Some(twin) = look_up(key)
    {
        kill(twin);
    }
}

/// Takes a half out of use if it is there.
#[inline(always)]
pub(crate) fn remove<A: Table>(key: &FlowKey<A>) {
    if let Some(slot) = look_up(key) {
        end(slot, key);
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

/// The ports and the state of an IPv4 slot by its number, for the benchmark.
#[inline(always)]
pub fn read_slot(number: u32) -> Option<u64> {
    let set = V4::set(number / WAYS)?.cast::<Slot<V4>>();
    // SAFETY: the way is masked to one of the set.
    Some(word(unsafe { set.add(number as usize & (WAYS as usize - 1)) }).load())
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
