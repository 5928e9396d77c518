//! Schedulers: pure builders of the tables that the data plane indexes.
//!
//! A table has [`TABLE_ENTRIES`](lb_common::limits::TABLE_ENTRIES) entries, each the number of a backend. It is a
//! function of the candidates alone, so both nodes of a pair build the same from the same configuration.

#![deny(clippy::disallowed_methods)]

pub mod maglev;
pub mod sequence;
#[cfg(test)]
mod tests;

use lb_common::limits;

/// A backend that takes new flows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The same on both nodes of a pair, and no other candidate's.
    pub identity: String,
    /// Number of the backend on this node, what the table will hold.
    pub number: u32,
    /// More than 0, or it gets no entry.
    pub weight: u16,
}

/// What the entries of a table mean, by how the data plane picks one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Picked by a hash of the flow: few other flows move when candidates come and go. Schedulers `maglev` and
    /// `source-hash`, which differ in what is hashed.
    Consistent,
    /// Picked by a counter that turns: everybody in turn, weights apart from 0 ignored. Scheduler `round-robin`.
    Turns,
    /// Picked by a counter that turns or at random: turns spread by weight. Schedulers `weighted` and `random`, and the
    /// two random choices of `least-conn`.
    WeightedTurns,
    /// Whichever is picked is the first candidate of those given. Scheduler `failover`.
    First,
}

/// The table, or `None` if nobody takes new flows. The order of candidates matters to [`Kind::First`] only. At most
/// [`limits::BACKENDS`] candidates have entries.
#[must_use]
pub fn table(kind: Kind, candidates: &[Candidate]) -> Option<Vec<u32>> {
    match kind {
        Kind::Consistent => maglev::table(candidates),
        Kind::Turns => sequence::equal(candidates),
        Kind::WeightedTurns => sequence::weighted(candidates),
        Kind::First => {
            let first = candidates.iter().find(|candidate| candidate.weight > 0)?;
            Some(vec![first.number; limits::TABLE_ENTRIES as usize])
        }
    }
}

/// Who gets entries, in an order that is the same on both nodes.
fn in_order(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut eligible: Vec<_> = candidates.iter().filter(|candidate| candidate.weight > 0).collect();
    eligible.sort_unstable();
    eligible.truncate(limits::BACKENDS as usize);
    eligible
}
