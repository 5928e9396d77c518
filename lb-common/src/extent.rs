//! How much of a flow table is in use.
//!
//! Few flows spread over a large table would each have a page of memory for themselves, and every packet would wait for the
//! processor to find that page. So a table begins with its first sets, and the part that is in use doubles as it fills:
//! [`LEVELS`] times, then it is the whole table. Where a flow belongs follows from its hash and the level, and when the part
//! doubles half of the flows stay where they are. User space moves the others, and says meanwhile that they are
//! to be looked for where they belonged before. A program that finds no room in the part stores where the table will double last,
//! if that is full where it will double before that, and so on, and says so: a burst finds room in the whole table.
//!
//! All of that is one word for each table, which programs and user space change by atomic operations. All zeros is a
//! new table.

use crate::flow::WAYS;

/// How often the part in use doubles, at the most.
pub const LEVELS: u32 = 4;

/// The part is so many doublings large, as bits that are set: what of a hash tells one double from the other.
const PART: u64 = 0xffff;
/// From here on a bit for each level at which the place of a half may have been that is to be looked for there.
const FORMER_SHIFT: u32 = 16;
/// From here on a bit for each level at which sets beyond the part come into use, among which halves are to be looked for.
const BEYOND_SHIFT: u32 = 24;
const BEYOND: u64 = 0xff << BEYOND_SHIFT;
const ELSEWHERE: u64 = 0xff << FORMER_SHIFT | BEYOND;
/// The part had no room for a half since user space cleared this.
pub const SPILLED: u64 = 1 << 32;
/// User space moves halves, or ended while it did: some may be there twice.
pub const MOVING: u64 = 1 << 33;

/// Times that a table of so many sets can double from its first part.
#[inline(always)]
#[must_use]
pub const fn levels(sets: u32) -> u32 {
    let most = sets.trailing_zeros();
    if most < LEVELS { most } else { LEVELS }
}

/// Bits that tell the sets of a level apart.
#[inline(always)]
#[must_use]
pub const fn part_of(level: u32) -> u32 {
    (1 << level) - 1
}

/// [`part_of`] the level of the part in use.
#[inline(always)]
#[must_use]
pub const fn part(extent: u64) -> u32 {
    (extent & PART) as u32
}

#[inline(always)]
#[must_use]
pub const fn level(extent: u64) -> u32 {
    part(extent).count_ones()
}

/// Whether halves are to be looked for elsewhere than in their place.
#[inline(always)]
#[must_use]
pub const fn has_elsewhere(extent: u64) -> bool {
    extent & ELSEWHERE != 0
}

/// Whether halves are to be looked for where their place was at this level.
#[inline(always)]
#[must_use]
pub const fn is_former(extent: u64, level: u32) -> bool {
    extent >> (FORMER_SHIFT + level) & 1 != 0
}

/// Whether halves are to be looked for [`beyond`] the part, among the sets that come into use at this level.
#[inline(always)]
#[must_use]
pub const fn has_beyond(extent: u64, level: u32) -> bool {
    extent >> (BEYOND_SHIFT + level) & 1 != 0
}

/// What is to be set before a half is stored [`beyond`] the part, among the sets that come into use at this level.
#[inline(always)]
#[must_use]
pub const fn spilling(level: u32) -> u64 {
    SPILLED | 1 << (BEYOND_SHIFT + level)
}

/// The part at another level; what was in its place before is to be looked for there.
#[must_use]
pub const fn grown(extent: u64, to: u32) -> u64 {
    extent & !PART | part_of(to) as u64 | 1 << (FORMER_SHIFT + level(extent))
}

/// The whole table is in use, and halves may be anywhere.
#[must_use]
pub const fn unknown(levels: u32) -> u64 {
    part_of(levels) as u64 | ELSEWHERE | MOVING
}

/// Everything is in its place, once.
#[must_use]
pub const fn settled(extent: u64) -> u64 {
    extent & PART
}

/// Sets that may hold halves, the first ones of a table whose first part has `base` sets and doubles `levels` times.
#[must_use]
pub const fn sets_in_use(extent: u64, base: u32, levels: u32) -> u32 {
    base << if extent & BEYOND != 0 { levels } else { level(extent) }
}

/// The two sets a key may be in, from its [`crate::hash::slot_hash`]. `base` is the number of sets of the first part.
#[inline(always)]
#[must_use]
pub const fn sets(hash: u64, base: u32, part: u32) -> [u32; 2] {
    [set((hash >> 32) as u32, base, part, 0), set(hash as u32, base, part, 0)]
}

/// Where a key is for which the part had no room: among the sets that come into use at this level. For [`sets_at`].
#[inline(always)]
#[must_use]
pub const fn beyond(level: u32) -> u32 {
    part_of(level) | 1 << level >> 1 << 16
}

/// As [`sets`]; `at` is [`part_of`] a level, or [`beyond`].
#[inline(always)]
#[must_use]
pub const fn sets_at(hash: u64, base: u32, at: u32) -> [u32; 2] {
    let (part, half) = (at & PART as u32, at >> 16);
    [set((hash >> 32) as u32, base, part, half), set(hash as u32, base, part, half)]
}

/// The highest bits of the hash tell the set of the first part; those that tell its doubles are none of these, and none that
/// [`crate::flow::home`] takes.
#[inline(always)]
const fn set(hash: u32, base: u32, part: u32, half: u32) -> u32 {
    ((hash as u64 * base as u64) >> 32) as u32 + base * (hash >> WAYS.ilog2() & part | half)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64-bit finalizer, to have hashes.
    fn hashes() -> impl Iterator<Item = u64> {
        (1..20_000_u64).map(|number| {
            let x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) ^ x >> 31
        })
    }

    #[test]
    fn when_the_part_doubles_a_set_stays_or_goes_to_its_double() {
        for base in [1, 5, 5120] {
            for level in 0..LEVELS {
                let moved = hashes().filter(|hash| {
                    let before = sets(*hash, base, part_of(level));
                    let after = sets(*hash, base, part_of(level + 1));
                    for (before, after) in before.into_iter().zip(after) {
                        assert!(before < base << level);
                        assert!(after == before || after == before + (base << level));
                    }
                    before[0] != after[0]
                });
                let share = moved.count() as f64 / hashes().count() as f64;
                assert!((0.48..0.52).contains(&share), "{share}");
            }
        }
    }

    #[test]
    fn at_every_level_all_sets_get_alike_many_and_their_ways_too() {
        for level in 0..=LEVELS {
            let base = 4;
            let mut first = [[0_u32; WAYS as usize]; 4 << LEVELS];
            let mut second = [0_u32; 4 << LEVELS];
            for hash in hashes() {
                let [a, b] = sets(hash, base, part_of(level));
                first[a as usize][crate::flow::home(hash) as usize] += 1;
                second[b as usize] += 1;
            }
            let places = base << level;
            let even = |count: u32, places: u32| {
                let mean = f64::from(hashes().count() as u32) / f64::from(places);
                assert!((f64::from(count) - mean).abs() < 6.0 * mean.sqrt(), "{count}, {mean} expected");
            };
            for set in 0..places {
                even(second[set as usize], places);
                for count in first[set as usize] {
                    even(count, places * WAYS);
                }
            }
        }
    }

    #[test]
    fn a_table_grows_spills_and_settles_by_its_word() {
        let grown_once = grown(0, 1);
        assert_eq!((level(grown_once), part(grown_once)), (1, 1));
        assert!(is_former(grown_once, 0) && !is_former(grown_once, 1));
        assert!(has_elsewhere(grown_once) && (0..=LEVELS).all(|level| !has_beyond(grown_once, level)));
        assert_eq!(sets_in_use(grown_once, 5, 4), 10);
        let spilled = grown_once | spilling(4);
        assert_eq!((level(spilled), sets_in_use(spilled, 5, 4)), (1, 80));
        let at_once = grown(spilled, 3);
        assert!(is_former(at_once, 0) && is_former(at_once, 1) && !is_former(at_once, 3));
        assert!(has_beyond(at_once, 4) && !has_beyond(at_once, 3) && at_once & SPILLED != 0);
        let settled = settled(at_once);
        assert!(!has_elsewhere(settled) && settled & SPILLED == 0);
        assert_eq!((level(settled), sets_in_use(settled, 5, 4)), (3, 40));
    }

    #[test]
    fn what_spills_goes_to_sets_that_come_into_use_at_its_level_and_to_all_of_them_alike() {
        for level in 1..=LEVELS {
            let base = 5;
            let (from, to) = (base << (level - 1), base << level);
            let mut count = vec![0_u32; to as usize];
            for hash in hashes() {
                let sets = sets_at(hash, base, beyond(level));
                assert!(sets.into_iter().all(|set| (from..to).contains(&set)));
                count[sets[0] as usize] += 1;
            }
            let mean = hashes().count() as u32 / (to - from);
            let there = &count[from as usize..];
            assert!(there.iter().all(|count| count.abs_diff(mean) < mean / 4), "{there:?}");
        }
    }

    #[test]
    fn a_table_doubles_as_often_as_its_sets_allow() {
        assert_eq!([1, 2, 3, 24, 80, 81_920].map(levels), [0, 1, 0, 3, 4, 4]);
    }
}
