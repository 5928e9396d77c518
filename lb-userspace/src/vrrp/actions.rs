//! What a machine asks its driver to do, in order and bounded.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use super::reason::{Peer, Reason};
use crate::status::InstanceState;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    SendAdvert {
        channel: usize,
        priority: u8,
    },
    TakeAddresses,
    ReleaseAddresses,
    /// A burst of gratuitous ARP and unsolicited neighbour advertisements.
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
#[derive(Debug)]
pub(super) struct Actions {
    queue: VecDeque<Action>,
    capacity: usize,
}

impl Actions {
    pub(super) fn new(channels: usize) -> Self {
        let mut actions = Self { queue: VecDeque::new(), capacity: 0 };
        actions.resize(channels);
        actions
    }

    /// Room for what one call of a machine with so many channels can ask for.
    pub(super) fn resize(&mut self, channels: usize) {
        self.capacity = 16 + 2 * channels;
    }

    pub(super) fn push(&mut self, action: Action) {
        if is_level(&action) {
            // Only the last word on the addresses counts, and that one is never dropped.
            self.queue.retain(|queued| !is_level(queued));
        }
        while self.queue.len() >= self.capacity
            && let Some(oldest) = self.queue.iter().position(|queued| !is_level(queued))
        {
            self.queue.remove(oldest);
        }
        self.queue.push_back(action);
    }

    pub(super) fn pop(&mut self) -> Option<Action> {
        self.queue.pop_front()
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
        let mut actions = Actions::new(3);
        actions.push(Action::TakeAddresses);
        actions.push(Action::ReleaseAddresses);
        for _ in 0..1000 {
            actions.push(Action::SendAdvert { channel: 0, priority: 1 });
        }
        let drained: Vec<_> = std::iter::from_fn(|| actions.pop()).collect();
        assert_eq!(drained.len(), 16 + 2 * 3);
        assert_eq!(drained.iter().filter(|action| is_level(action)).count(), 1);
        assert!(drained.contains(&Action::ReleaseAddresses));
    }
}
