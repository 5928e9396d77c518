//! Who was heard on a channel.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::super::reason::Peer;
use super::config::Heard;

/// Another node, as its last advertisement told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    pub peer: Peer,
    pub interval: Duration,
    pub heard_at: Instant,
}

/// The nodes heard last, bounded.
#[derive(Debug, Clone, Default)]
pub(super) struct Nodes(Vec<Node>);

impl Nodes {
    const CAPACITY: usize = 8;

    pub(super) fn heard(&mut self, heard: Heard, now: Instant) {
        let node = Node { peer: heard.from, interval: heard.interval, heard_at: now };
        if let Some(known) = self.0.iter_mut().find(|known| known.peer.address == node.peer.address) {
            *known = node;
            return;
        }
        if self.0.len() == Self::CAPACITY {
            let oldest = (0..self.0.len()).min_by_key(|&index| self.0[index].heard_at);
            oldest.map(|index| self.0.swap_remove(index));
        }
        self.0.push(node);
    }

    pub(super) fn as_slice(&self) -> &[Node] {
        &self.0
    }
}
