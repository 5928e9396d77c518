//! What a machine asks its driver to do, in order and bounded.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use super::reason::{Peer, Reason};
use crate::status::InstanceState;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    SendAdvert {
        priority: u8,
    },
    TakeAddresses,
    ReleaseAddresses,
    /// A burst of gratuitous ARP.
    Announce,
    /// Another master is heard while this node is and stays master; once for each time that begins.
    SecondMaster(Peer),
    Transition {
        from: InstanceState,
        to: InstanceState,
        reason: Reason,
    },
}

/// A queue that a driver drains after each call; one that is not drained stays bounded and still ends right.
#[derive(Debug, Default)]
pub(super) struct Actions(VecDeque<Action>);

impl Actions {
    const CAPACITY: usize = 16;

    pub(super) fn push(&mut self, action: Action) {
        if is_level(&action) {
            // Only the last word on the addresses counts, and that one is never dropped.
            self.0.retain(|queued| !is_level(queued));
        }
        if self.0.len() == Self::CAPACITY
            && let Some(oldest) = self.0.iter().position(|queued| !is_level(queued))
        {
            self.0.remove(oldest);
        }
        self.0.push_back(action);
    }

    pub(super) fn pop(&mut self) -> Option<Action> {
        self.0.pop_front()
    }
}

fn is_level(action: &Action) -> bool {
    matches!(action, Action::TakeAddresses | Action::ReleaseAddresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undrained_queue_is_bounded_and_keeps_the_last_word_on_addresses() {
        let mut actions = Actions::default();
        actions.push(Action::TakeAddresses);
        actions.push(Action::ReleaseAddresses);
        for _ in 0..1000 {
            actions.push(Action::SendAdvert { priority: 1 });
        }
        let drained: Vec<_> = std::iter::from_fn(|| actions.pop()).collect();
        assert_eq!(drained.len(), Actions::CAPACITY);
        assert_eq!(drained.iter().filter(|action| is_level(action)).count(), 1);
        assert!(drained.contains(&Action::ReleaseAddresses));
    }
}
