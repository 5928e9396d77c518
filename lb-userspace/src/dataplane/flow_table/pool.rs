//! What of backends and sources the halves of flows are worked out with.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use lb_common::addr::Addr;
use lb_common::service::{SOURCES, Sources};

/// A backend that flows may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub identity: u32,
    pub address: Addr,
    /// Network order; 0: the port that the client wrote.
    pub port: u16,
}

/// Backends by number, those that drain included, and source addresses for `fullnat`, by the index of their record: as the
/// program has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    members: Vec<Option<Member>>,
    sources: BTreeMap<u32, Sources>,
}

impl Pool {
    /// Backends whose numbers have more than 16 bits, which no flow can have, are left out.
    pub fn new(
        backends: impl IntoIterator<Item = (u32, Member)>,
        sources: impl IntoIterator<Item = (u32, Sources)>,
    ) -> Self {
        let mut members = Vec::new();
        for (number, member) in backends {
            let Ok(number) = u16::try_from(number) else {
                continue;
            };
            let number = usize::from(number);
            if members.len() <= number {
                members.resize(number + 1, None);
            }
            members[number] = Some(member);
        }
        Self { members, sources: sources.into_iter().collect() }
    }

    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Member> {
        self.members.get(number as usize)?.as_ref()
    }

    /// A source address by what the forward half of a flow says: index of the record times [`SOURCES`], and the number of
    /// the address in it.
    #[must_use]
    pub fn source(&self, number: u32) -> Option<Addr> {
        let sources = self.sources.get(&(number / SOURCES as u32))?;
        let addresses = sources.addresses.get(..sources.count as usize)?;
        addresses.get(number as usize % SOURCES).copied()
    }
}
