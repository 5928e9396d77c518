//! Growth of the part of a table that is in use. See [`lb_common::extent`].
//!
//! A half is moved by a copy in its new place, and the end of the old one:
//!
//! 1. The word says that halves are being moved, and the part is made larger. After a grace period every program stores by
//!    the new part, and looks for what it does not find there by the old one.
//! 2. Every half that is not in its place is copied there. After a grace period every program finds the copy.
//! 3. The old half is killed, and what programs wrote into it meanwhile is carried to the copy. The forward half of a `fullnat`
//!    flow is found by its number too, which its reply half names: that one first names the copy, and the old half is killed a
//!    grace period later.
//! 4. After a grace period what programs that had the old half in hand wrote into it since is carried too, and it is freed. When
//!    all are in their place, nothing is looked for by the old part any more.
//!
//! What is in its place, and was put into a later slot of it because the part was full, moves in the same way. So does what is in
//! a set that another half has no room in, if there is some in its own other set; where that one is looked at last, programs go on
//! with the old half until it is killed.
//!
//! Whoever is killed in between leaves halves that are there twice, and the word says so: the next sweep goes on before it does
//! anything else. A program that takes a flow out of use meanwhile takes its twin too.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use lb_common::addr::Address;
use lb_common::extent::{self, MOVING, SPILLED};
use lb_common::flow::{CROWDED, REPLY, SEEN_FIN, SEEN_RST, Slot, WAYS};
use lb_common::hash::slot_hash;
use lb_common::service::Method;

use super::flow::method;
use super::pairs::other_key;
use super::pool::Pool;
use super::slot::Layout;
use super::{FlowTable, Full, key, ways};

/// Hundredths of the part's slots that are in use when it doubles. Above, fewer halves are where they are looked for first;
/// from 85 on there may be no room for one (see [`lb_common::flow::CROWDED`]), and it spills.
const FULL: u64 = 70;

/// How often one sweep looks for what is not in its place, and how many halves it moves each time, at the most.
const ROUNDS: usize = 8;
const MOST: usize = 1 << 20;

/// A half and its copy.
struct Move {
    from: u32,
    to: u32,
    /// The reply half names the slot.
    named: bool,
    /// `None` if the copy was there before.
    carried: Option<Carried>,
}

/// What of the old half the copy has, of that which programs write.
#[derive(Clone, Copy)]
struct Carried {
    state: u32,
    place: u32,
    last_seen: u32,
}

/// A half that may have to move, and the sets of its place.
struct Candidate<A: Address> {
    from: u32,
    half: Slot<A>,
    hash: u64,
    sets: [u32; 2],
}

/// What is not in its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Nothing,
    /// Something that is still to be freed, or of which nobody knows the half that names it.
    Some,
    NoRoom,
    /// More than are moved at once.
    More,
}

/// What one look at the whole table found.
struct Found {
    moves: Vec<Move>,
    left: Left,
    /// A half stays that is there twice.
    twice: bool,
    /// How many halves have no room in a set, by its number.
    wanted: BTreeMap<u32, u32>,
}

impl<A: Address> FlowTable<A> {
    /// Whether halves may be there twice.
    pub(in crate::dataplane) fn is_moving(&self) -> bool {
        self.extent.load() & MOVING != 0
    }

    /// Makes the part large enough for so many halves and brings what is not in its place there; how many halves that were.
    /// `grace` is as in [`crate::dataplane::sweep::Sweeper::sweep`].
    pub(in crate::dataplane) fn grow(&mut self, entries: u64, pool: &Pool, grace: &mut impl FnMut()) -> u64 {
        let (level, before) = (self.wanted_level(entries), self.extent.load());
        let grows = level > extent::level(before);
        if !grows && !extent::has_elsewhere(before) && before & MOVING == 0 {
            return 0;
        }
        let word = self.extent.update(|word| {
            let word = if grows { extent::grown(word, level) } else { word };
            word & !SPILLED | MOVING
        });
        grace();
        let (mut moved, mut rounds) = (0, 0);
        let found = loop {
            let mut found = self.copy(word, pool, Self::copy_misplaced);
            let came = self.finish(mem::take(&mut found.moves), pool, grace);
            let made_room = self.finish(self.make_room(word, pool, &found.wanted), pool, grace);
            moved += came + made_room;
            rounds += 1;
            // What has moved makes room for others.
            if found.left < Left::NoRoom || came + made_room == 0 || rounds == ROUNDS {
                break found;
            }
        };
        if grows && found.left == Left::Nothing {
            let displaced = self.copy(word, pool, Self::copy_displaced);
            moved += self.finish(displaced.moves, pool, grace);
        }
        match found.left {
            Left::Nothing => self.extent.settle(word),
            Left::NoRoom => drop(self.extent.update(|word| word | SPILLED)),
            Left::Some | Left::More => {}
        }
        if !found.twice {
            self.extent.update(|word| word & !MOVING);
        }
        moved
    }

    /// Returns how many halves have moved.
    fn finish(&mut self, mut moves: Vec<Move>, pool: &Pool, grace: &mut impl FnMut()) -> u64 {
        if moves.is_empty() {
            return 0;
        }
        grace();
        for half in moves.iter_mut().filter(|half| !half.named) {
            self.replace(half);
        }
        if moves.iter().any(|half| half.named) {
            for half in moves.iter().filter(|half| half.named) {
                self.tell_reply(half, pool);
            }
            grace();
            for half in moves.iter_mut().filter(|half| half.named) {
                self.replace(half);
            }
        }
        grace();
        for half in &mut moves {
            self.carry(half);
            self.free(half.from);
        }
        moves.len() as u64
    }

    fn wanted_level(&self, entries: u64) -> u32 {
        let word = self.extent.load();
        let now = extent::level(word);
        let is_full = |level: u32| entries * 100 > self.slots_of(level) * FULL;
        let wanted = (now..self.levels).find(|level| !is_full(*level)).unwrap_or(self.levels);
        if word & SPILLED == 0 { wanted } else { wanted.max(now + 1).min(self.levels) }
    }

    /// Looks at every half, and has `to_its_place` copy those that are there once.
    fn copy(
        &self,
        word: u64,
        pool: &Pool,
        to_its_place: fn(&Self, &Candidate<A>) -> Result<Option<u32>, Full>,
    ) -> Found {
        let beyond = self.slots_of(extent::level(word));
        let mut found =
            Found { moves: Vec::new(), left: Left::Nothing, twice: false, wanted: BTreeMap::new() };
        for used in self.used() {
            if found.moves.len() == MOST {
                found.left = Left::More;
                found.twice = true;
                break;
            }
            let from = used.number;
            let Some(half) = self.get(from) else {
                if u64::from(from) >= beyond {
                    // Sweeps see to the part only, when all is in its place.
                    found.left = found.left.max(Left::Some);
                }
                continue;
            };
            let hash = slot_hash(&key(&half), self.seed);
            let sets = extent::sets(hash, self.base, extent::part(word));
            let (named, in_place) = (is_named(&half), sets.contains(&(from / WAYS)));
            let twin = self.find(&key(&half)).filter(|to| *to != from);
            if named && other_key(&half, pool).is_none() {
                if twin.is_some() || !in_place {
                    found.left = found.left.max(Left::Some);
                }
                found.twice |= twin.is_some();
            } else if let Some(to) = twin {
                found.moves.push(Move { from, to, named, carried: None });
            } else {
                match to_its_place(self, &Candidate { from, half, hash, sets }) {
                    Ok(Some(to)) => found.moves.push(self.copied(from, to, &half)),
                    Ok(None) => {}
                    Err(Full) => {
                        found.left = found.left.max(Left::NoRoom);
                        for set in sets {
                            *found.wanted.entry(set).or_default() += 1;
                        }
                    }
                }
            }
        }
        found
    }

    fn copied(&self, from: u32, to: u32, half: &Slot<A>) -> Move {
        // A program that ended it just now did not know the copy.
        if self.get(from).is_none() {
            self.kill(to);
        }
        let Slot { state, place, last_seen, .. } = *half;
        Move { from, to, named: is_named(half), carried: Some(Carried { state, place, last_seen }) }
    }

    /// Copies as many halves of each set as are wanted of it to their other set, if that is not wanted too and has room.
    fn make_room(&self, word: u64, pool: &Pool, wanted: &BTreeMap<u32, u32>) -> Vec<Move> {
        let to_the_other_set = |set: u32, from: u32| {
            let half = self.get(from)?;
            let (key, part) = (key(&half), extent::part(word));
            let hash = slot_hash(&key, self.seed);
            let other = match extent::sets(hash, self.base, part) {
                [first, second] if first == set => second,
                [first, second] if second == set => first,
                _ => return None,
            };
            let stays = wanted.contains_key(&other)
                || is_named(&half) && other_key(&half, pool).is_none()
                || self.find_in(&key, hash, [other; 2]).is_some();
            let to = if stays { None } else { self.store(&half, ways(other, hash)) };
            Some(self.copied(from, to?, &half))
        };
        let of_set = |(set, most): (&u32, &u32)| {
            let (set, most) = (*set, *most as usize);
            (set * WAYS..(set + 1) * WAYS).filter_map(move |from| to_the_other_set(set, from)).take(most)
        };
        wanted.iter().flat_map(of_set).take(MOST).collect()
    }

    fn copy_misplaced(&self, candidate: &Candidate<A>) -> Result<Option<u32>, Full> {
        let Candidate { from, half, hash, sets } = candidate;
        if sets.contains(&(from / WAYS)) {
            return Ok(None);
        }
        self.insert_in(half, *hash, *sets).map(Some).ok_or(Full)
    }

    /// What had to make do with a later way of its set, or with its second set, goes to a slot that is looked at before: where it
    /// was fuller, most halves are not where they are looked for first. What has ended is not worth it.
    fn copy_displaced(&self, candidate: &Candidate<A>) -> Result<Option<u32>, Full> {
        let Candidate { from, half, hash, sets: [first, second] } = *candidate;
        if half.state & (SEEN_FIN | SEEN_RST) != 0 {
            return Ok(None);
        }
        let crowded = from / WAYS != first && self.in_use(first) >= CROWDED;
        let set = if crowded { second } else { first };
        Ok(self.store(&half, ways(set, hash).take_while(|number| *number != from)))
    }

    /// Has the reply half name the new slot of its forward half.
    fn tell_reply(&self, moved: &Move, pool: &Pool) {
        let key = self.get(moved.from).and_then(|half| other_key(&half, pool));
        let reply = key.and_then(|key| self.find(&key)).and_then(|reply| self.words(reply));
        if let Some(words) = reply {
            // Another flow's names another.
            let _ = words[Layout::<A>::OTHER].compare_exchange(moved.from, moved.to, AcqRel, Relaxed);
        }
    }

    /// Ends the old half.
    fn replace(&self, moved: &mut Move) {
        if self.kill(moved.from) {
            self.carry(moved);
        } else if moved.carried.is_some() {
            self.kill(moved.to);
        }
    }

    /// Tells the copy what programs wrote into the old half since it was last told: how the connection ended, or that it goes on
    /// after all, another return hop, and when.
    fn carry(&self, moved: &mut Move) {
        let (Some(before), Some(old), Some(new)) =
            (&mut moved.carried, self.words(moved.from), self.words(moved.to))
        else {
            return;
        };
        let [state, place, last_seen] =
            [Layout::<A>::STATE, Layout::<A>::PLACE, Layout::<A>::LAST_SEEN].map(|at| old[at].load(Acquire));
        let ends = SEEN_FIN | SEEN_RST;
        let (set, cleared) = (state & !before.state & ends, before.state & !state & ends);
        if set != 0 {
            new[Layout::<A>::STATE].fetch_or(set, AcqRel);
        }
        if cleared != 0 {
            new[Layout::<A>::STATE].fetch_and(!cleared, AcqRel);
        }
        for (at, before, now) in
            [(Layout::<A>::PLACE, before.place, place), (Layout::<A>::LAST_SEEN, before.last_seen, last_seen)]
        {
            // Unless a program wrote a later one there.
            let _ = new[at].compare_exchange(before, now, Relaxed, Relaxed);
        }
        *before = Carried { state, place, last_seen };
    }
}

/// Whether the other half names the slot of this one.
fn is_named<A: Address>(half: &Slot<A>) -> bool {
    half.state & REPLY == 0 && method(half.state) == Some(Method::FullNat)
}
