//! The flow tables: arrays of sets of slots, one for each family. See [`lb_common::flow`] for who writes what.
//!
//! Nothing is evicted: entries go in and out in pairs, and user space lets them expire, so no flood takes an established
//! flow away and the two halves of a `nat` flow can't lose each other.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::addr::{Addr, Address, V4};
use lb_common::flow::{self, CLAIMED, FlowKey, LIVE, Ports, Set, Slot, UDP, VERSION, VERSION_SHIFT, WAYS};
use lb_common::hash::slot_hash;
use lb_common::limits;

use super::{MAPPED, scratch};
use crate::atomic::Word;
use crate::globals;
use crate::packet::PROTOCOL_UDP;

#[btf_map(name = "ek_flows4")]
static FLOWS4: Array<Set<V4>, { limits::SETS4 as usize }, MAPPED> = Array::new();

#[btf_map(name = "ek_flows6")]
static FLOWS6: Array<Set<Addr>, { limits::SETS6 as usize }, MAPPED> = Array::new();

/// A table by family.
pub(crate) trait Table: Address {
    fn set(number: u32) -> Option<*mut Set<Self>>;
    /// Number of sets.
    fn sets() -> u32;
    /// The number of a live half's slot, or [`NONE`].
    fn search(key: &FlowKey<Self>) -> u32;
    /// Stores a half that is not there; the number of its slot, or [`NONE`].
    fn enter(key: &FlowKey<Self>) -> u32;
}

/// No slot has this number: the key is not there, or none was free.
pub(crate) const NONE: u32 = u32::MAX;

impl Table for V4 {
    #[inline(always)]
    fn set(number: u32) -> Option<*mut Set<Self>> {
        FLOWS4.get_ptr_mut(number)
    }

    #[inline(always)]
    fn sets() -> u32 {
        globals::sets4()
    }

    #[inline(always)]
    fn search(key: &FlowKey<Self>) -> u32 {
        ek_search4(key.source.0, key.destination.0, key.ports.word(), key.protocol)
    }

    #[inline(always)]
    fn enter(key: &FlowKey<Self>) -> u32 {
        ek_enter4(key.source.0, key.destination.0, key.ports.word(), key.protocol)
    }
}

// The functions that search and store take and return numbers only, and are visible outside of the object: so the verifier
// looks at each once and not at every place it is called from ("Function by function verification" in
// Documentation/bpf/bpf_design_QA.rst).

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_search4(source: u32, destination: u32, ports: u32, protocol: u32) -> u32 {
    in_sets(&key4(source, destination, ports, protocol))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_enter4(source: u32, destination: u32, ports: u32, protocol: u32) -> u32 {
    claim(&key4(source, destination, ports, protocol))
}

#[inline(always)]
const fn key4(source: u32, destination: u32, ports: u32, protocol: u32) -> FlowKey<V4> {
    FlowKey { source: V4(source), destination: V4(destination), ports: Ports::from_word(ports), protocol }
}

impl Table for Addr {
    #[inline(always)]
    fn set(number: u32) -> Option<*mut Set<Self>> {
        FLOWS6.get_ptr_mut(number)
    }

    #[inline(always)]
    fn sets() -> u32 {
        globals::sets6()
    }

    #[inline(always)]
    fn search(key: &FlowKey<Self>) -> u32 {
        if put(key) { ek_search6() } else { NONE }
    }

    #[inline(always)]
    fn enter(key: &FlowKey<Self>) -> u32 {
        if put(key) { ek_enter6() } else { NONE }
    }
}

#[inline(always)]
fn put(key: &FlowKey<Addr>) -> bool {
    let Some(scratch) = scratch::get() else {
        return false;
    };
    // SAFETY: the record is this CPU's own.
    unsafe { (*scratch).key = key.mapped() };
    true
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_search6() -> u32 {
    let Some(scratch) = scratch::get() else {
        return NONE;
    };
    // SAFETY: the record is this CPU's own.
    in_sets(unsafe { &*(&raw const (*scratch).key).cast::<FlowKey<Addr>>() })
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_enter6() -> u32 {
    let Some(scratch) = scratch::get() else {
        return NONE;
    };
    // SAFETY: the record is this CPU's own.
    claim(unsafe { &*(&raw const (*scratch).key).cast::<FlowKey<Addr>>() })
}

/// Both are written field for field alike.
const _: () = assert!(size_of::<FlowKey<Addr>>() == size_of::<flow::MappedKey>());

/// The slot of a live half, to be read and written in place. CPUs write `last_seen`, `state`'s bits and `place` without
/// a lock: each is written whole. The slot does not become another flow's before this program ends.
///
/// Most flows are where they are looked for first; that is inlined.
#[inline(always)]
pub(crate) fn find<A: Table>(key: &FlowKey<A>) -> Option<*mut Slot<A>> {
    let hash = slot_hash(key, globals::flow_seed());
    let [first, _] = flow::sets(hash, A::sets());
    let set = A::set(first)?.cast::<Slot<A>>();
    // SAFETY: the way is masked to one of the set.
    let slot = unsafe { set.add(flow::home(hash) as usize & (WAYS as usize - 1)) };
    if holds(slot, key) { Some(slot) } else { look_up(key) }
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
fn in_sets<A: Table>(key: &FlowKey<A>) -> u32 {
    let hash = slot_hash(key, globals::flow_seed());
    let [first, second] = flow::sets(hash, A::sets());
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
    A::enter(key)
}

#[inline(always)]
fn claim<A: Table>(key: &FlowKey<A>) -> u32 {
    let hash = slot_hash(key, globals::flow_seed());
    let [mut first, mut second] = flow::sets(hash, A::sets());
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
