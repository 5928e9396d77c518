//! How large the flow tables are.

#![deny(clippy::disallowed_methods)]

use lb_common::extent::LEVELS;
use lb_common::flow::WAYS;

/// Sets of the flow table of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub sets4: u32,
    pub sets6: u32,
}

impl Sizes {
    /// For so many entries of each family.
    #[must_use]
    pub const fn of(ipv4: u32, ipv6: u32) -> Self {
        Self { sets4: sets(ipv4), sets6: sets(ipv6) }
    }

    /// Entries of both tables, all sets full.
    #[must_use]
    pub const fn slots(self) -> u64 {
        (self.sets4 as u64 + self.sets6 as u64) * WAYS as u64
    }
}

/// The fewest sets that `entries` fill to four fifths at the most, and that can be halved as often as a table grows: a flow may
/// find both of its sets full from a little more on (see [`lb_common::flow::CROWDED`]). So an entry takes up 40 bytes of an IPv4 table and 80 of an IPv6 one, a `nat` flow,
/// which has two, 80 and 160.
const fn sets(entries: u32) -> u32 {
    let slots = (entries as u64 * 5).div_ceil(4);
    slots.div_ceil(WAYS as u64).next_multiple_of(1 << LEVELS) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_program() {
        let flows = crate::config::model::Flows::default();
        let sizes = Sizes::of(flows.ipv4, flows.ipv6);
        assert_eq!((sizes.sets4, sizes.sets6), (lb_common::limits::SETS4, lb_common::limits::SETS6));
    }

    proptest! {
        #[test]
        fn a_table_has_room_to_spare_and_little_more(entries in 1024_u32..=1 << 24) {
            let slots = f64::from(sets(entries) * WAYS);
            prop_assert!(slots * 0.8 >= f64::from(entries) && slots < f64::from(entries) * 1.25 + 256.0);
        }
    }
}
