//! Which Maglev tables exist: asked of a program, which looks at all of them in microseconds, where each
//! lookup by `bpf(2)` waits for a grace period of RCU up to Linux 6.7.

use std::collections::BTreeSet;

use lb_common::limits::{TABLES, TABLES_A_RUN};

use super::DataPlane;
use super::maps::{self, MapAccessError};
use super::packet::{Outcome, RunError};

const _: () = assert!(TABLES.is_multiple_of(TABLES_A_RUN));
const XDP_PASS: u32 = 2;

impl DataPlane {
    /// Numbers of the tables there are.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn table_numbers(&mut self) -> Result<BTreeSet<u32>, MapAccessError> {
        let mut numbers = BTreeSet::new();
        for first in (0..TABLES).step_by(TABLES_A_RUN as usize) {
            let there = maps::access(self.tables_from(first), maps::names::MAGLEV, "read")?;
            numbers.extend((first..).zip(there).filter(|(_, there)| *there != 0).map(|(number, _)| number));
        }
        Ok(numbers)
    }

    fn tables_from(&mut self, first: u32) -> Result<Vec<u8>, RunError> {
        let mut packet = vec![0; TABLES_A_RUN as usize];
        packet[..4].copy_from_slice(&first.to_ne_bytes());
        let Outcome { action, frame } = self.run("tables", &packet, 0)?;
        if action == XDP_PASS { Ok(frame) } else { Err(RunError::Action(action)) }
    }
}
