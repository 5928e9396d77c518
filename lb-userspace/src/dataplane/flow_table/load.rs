//! What the scheduler counts of each backend's flows, corrected by the census.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use lb_common::backend::Load;
use lb_common::limits;
use zerocopy::transmute;

use super::memory::Memory;

/// A load is two double words: `counted` with `recent`, and `full`.
const DOUBLES: usize = size_of::<Load>() / 8;

/// The map of loads. The program adds to `recent` with the double word that it is part of, and writes `full`.
pub struct Loads(Memory);

impl Loads {
    /// # Errors
    /// The kernel refused.
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        Memory::map(map, limits::BACKENDS as usize * size_of::<Load>()).map(Self)
    }

    /// Puts a census' count in the place of the last one and of what the program has added since, in one write. Flows
    /// that began or ended after the census had passed their slot, and before this, are in neither: the count is off by
    /// so many until the next census.
    pub fn settle(&self, backend: u32, active: u32) {
        if let Some([counts, _]) = self.doubles(backend) {
            counts.swap(transmute!([active, 0_u32]), AcqRel);
        }
    }

    /// Forgets everything of a number that becomes another backend's.
    pub fn reset(&self, backend: u32) {
        if let Some([counts, full]) = self.doubles(backend) {
            counts.store(0, Release);
            full.store(0, Release);
        }
    }

    #[must_use]
    pub fn get(&self, backend: u32) -> Option<Load> {
        let doubles = self.doubles(backend)?;
        Some(transmute!([doubles[0].load(Acquire), doubles[1].load(Acquire)]))
    }

    fn doubles(&self, backend: u32) -> Option<&[AtomicU64; DOUBLES]> {
        let first = backend as usize * DOUBLES;
        self.0.doubles().get(first..)?.first_chunk()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::dataplane::flow_table::tests::memory_file;

    #[test]
    fn a_count_takes_the_place_of_what_the_program_added() {
        let file = memory_file(limits::BACKENDS as usize * size_of::<Load>());
        let loads = Loads::map(file.as_fd()).unwrap();
        let last = limits::BACKENDS - 1;
        let [counts, full] = loads.doubles(last).unwrap();
        counts.store(transmute!([4_u32, (-3_i32).cast_unsigned()]), Release);
        full.store(transmute!([1_u32, 0]), Release);
        loads.settle(last, 7);
        assert_eq!(loads.get(last), Some(Load { counted: 7, recent: 0, full: 1, zero: 0 }));
        loads.reset(last);
        assert_eq!(loads.get(last), Some(Load::default()));
        assert_eq!(loads.get(0), Some(Load::default()));
        loads.settle(limits::BACKENDS, 1);
        assert_eq!(loads.get(limits::BACKENDS), None);
    }
}
