//! What of backends and sources the halves of flows are worked out with.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use lb_common::addr::Addr;

/// A backend that flows may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub identity: u32,
    pub address: Addr,
    /// Network order; 0: the port that the client wrote.
    pub port: u16,
    /// Source addresses of its service, for `fullnat`, as the program has them.
    pub sources: Arc<[Addr]>,
}

/// Backends by number, those that drain included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool(Vec<Option<Member>>);

impl Pool {
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Member> {
        self.0.get(number as usize)?.as_ref()
    }
}

impl FromIterator<(u32, Member)> for Pool {
    /// Numbers beyond 16 bits, which no flow can have, are left out.
    fn from_iter<I: IntoIterator<Item = (u32, Member)>>(members: I) -> Self {
        let mut pool = Vec::new();
        for (number, member) in members {
            let Ok(number) = u16::try_from(number) else {
                continue;
            };
            let number = usize::from(number);
            if pool.len() <= number {
                pool.resize(number + 1, None);
            }
            pool[number] = Some(member);
        }
        Self(pool)
    }
}
