//! A slot as words of memory that others write too.

use std::marker::PhantomData;
use std::mem::offset_of;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use lb_common::addr::{Addr, Address};
use lb_common::flow::{FlowKey, LIVE, Ports, Slot, UDP};

pub(super) const PROTOCOL_TCP: u32 = 6;
pub(super) const PROTOCOL_UDP: u32 = 17;

/// Where the fields of a slot are, in words.
pub(super) struct Layout<A>(PhantomData<A>);

impl<A: Address> Layout<A> {
    pub(super) const WORDS: usize = size_of::<Slot<A>>() / 4;
    pub(super) const STATE: usize = offset_of!(Slot<A>, state) / 4;
    pub(super) const LAST_SEEN: usize = offset_of!(Slot<A>, last_seen) / 4;
    pub(super) const PLACE: usize = offset_of!(Slot<A>, place) / 4;
    const SOURCE: usize = offset_of!(Slot<A>, source) / 4;
    const DESTINATION: usize = offset_of!(Slot<A>, destination) / 4;
    const PORTS: usize = offset_of!(Slot<A>, ports) / 4;
    pub(super) const OTHER: usize = offset_of!(Slot<A>, other) / 4;
}

/// 5-tuple of a half.
#[must_use]
pub fn key<A: Address>(half: &Slot<A>) -> FlowKey<A> {
    FlowKey {
        source: half.source,
        destination: half.destination,
        ports: Ports::from_word(half.ports),
        protocol: if half.state & UDP == 0 { PROTOCOL_TCP } else { PROTOCOL_UDP },
    }
}

/// `None` if it is not live. The state is read first: what is live stays as it is until it was freed.
pub(super) fn read<A: Address>(words: &[AtomicU32]) -> Option<Slot<A>> {
    let state = words[Layout::<A>::STATE].load(Acquire);
    if state & LIVE == 0 {
        return None;
    }
    let source = address::<A>(&words[Layout::<A>::SOURCE..]);
    let mut other = source.to_other();
    for (to, from) in other.as_mut().iter_mut().zip(&words[Layout::<A>::OTHER..]) {
        *to = from.load(Relaxed);
    }
    Some(Slot {
        source,
        destination: address(&words[Layout::<A>::DESTINATION..]),
        ports: words[Layout::<A>::PORTS].load(Relaxed),
        state,
        last_seen: words[Layout::<A>::LAST_SEEN].load(Relaxed),
        place: words[Layout::<A>::PLACE].load(Relaxed),
        other,
    })
}

/// Whether a slot that is live has this 5-tuple, its protocol aside.
pub(super) fn holds<A: Address>(words: &[AtomicU32], key: &FlowKey<A>) -> bool {
    words[Layout::<A>::PORTS].load(Relaxed) == key.ports.word()
        && address::<A>(&words[Layout::<A>::SOURCE..]) == key.source
        && address::<A>(&words[Layout::<A>::DESTINATION..]) == key.destination
}

/// Writes all but the state into a slot that the caller has claimed.
pub(super) fn fill<A: Address>(words: &[AtomicU32], half: &Slot<A>) {
    put(&words[Layout::<A>::SOURCE..], half.source);
    put(&words[Layout::<A>::DESTINATION..], half.destination);
    words[Layout::<A>::PORTS].store(half.ports, Relaxed);
    words[Layout::<A>::LAST_SEEN].store(half.last_seen, Relaxed);
    words[Layout::<A>::PLACE].store(half.place, Relaxed);
    for (to, from) in words[Layout::<A>::OTHER..].iter().zip(half.other.as_ref()) {
        to.store(*from, Relaxed);
    }
}

/// Writes zeros over all but the state.
pub(super) fn clear<A: Address>(words: &[AtomicU32]) {
    for (at, word) in words.iter().enumerate() {
        if at != Layout::<A>::STATE {
            word.store(0, Relaxed);
        }
    }
}

fn address<A: Address>(words: &[AtomicU32]) -> A {
    let word = |at: usize| words[at].load(Relaxed);
    if A::IS_V4 {
        A::from_mapped(Addr::from_v4(word(0)))
    } else {
        A::from_mapped(Addr::from_words([word(0), word(1), word(2), word(3)]))
    }
}

fn put<A: Address>(words: &[AtomicU32], address: A) {
    let mapped = address.mapped();
    if A::IS_V4 {
        words[0].store(mapped.v4(), Relaxed);
    } else {
        for (to, from) in words.iter().zip(mapped.words()) {
            to.store(from, Relaxed);
        }
    }
}
