//! What waits for a hook: bounded, in order, the oldest given up for the newest.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A node's instances may all change at once, 255 of them, there and back.
pub(super) const MOST: usize = 512;

#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Notify,
    /// For those who wait until everything is done.
    idle: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    /// The first item is being worked on.
    busy: bool,
    closed: bool,
    dropped: u64,
}

impl<T: Clone> Queue<T> {
    pub(super) fn new() -> Self {
        let waiting = Waiting { items: VecDeque::new(), busy: false, closed: false, dropped: 0 };
        Self { waiting: Mutex::new(waiting), changed: Notify::new(), idle: Notify::new() }
    }

    pub(super) fn push(&self, item: T) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        // What is being worked on can't be given up.
        if waiting.items.len() - usize::from(waiting.busy) >= MOST {
            let oldest = usize::from(waiting.busy);
            waiting.items.remove(oldest);
            waiting.dropped = waiting.dropped.saturating_add(1);
        }
        waiting.items.push_back(item);
        self.changed.notify_one();
    }

    /// Waits for an item, which stays the first until [`Self::done`]; `None` once the queue is closed. For one worker.
    pub(super) async fn first(&self) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            {
                let mut waiting = self.lock();
                if waiting.closed {
                    return None;
                }
                if let Some(item) = waiting.items.front().cloned() {
                    waiting.busy = true;
                    return Some(item);
                }
            }
            changed.await;
        }
    }

    pub(super) fn done(&self) {
        let mut waiting = self.lock();
        waiting.busy = false;
        waiting.items.pop_front();
        if waiting.items.is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// Takes nothing more and gives out nothing more; what is being worked on is not disturbed.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let busy = usize::from(waiting.busy);
        waiting.items.truncate(busy);
        self.changed.notify_one();
    }

    pub(super) async fn wait_until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.lock().items.is_empty() {
                return;
            }
            idle.await;
        }
    }

    /// How many wait, and how many were given up.
    pub(super) fn counts(&self) -> (usize, u64) {
        let waiting = self.lock();
        (waiting.items.len(), waiting.dropped)
    }

    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        self.lock().busy
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_gives_up_the_oldest_but_not_what_is_being_worked_on() {
        let queue = Queue::new();
        queue.push(0);
        assert_eq!(queue.first().await, Some(0));
        (1..=MOST + 2).for_each(|item| queue.push(item));
        assert_eq!(queue.counts(), (MOST + 1, 2));
        queue.done();
        assert_eq!(queue.first().await, Some(3));
    }

    #[tokio::test]
    async fn a_closed_queue_has_nothing_more_to_do() {
        let queue = Queue::new();
        queue.push(1);
        queue.push(2);
        assert_eq!(queue.first().await, Some(1));
        queue.close();
        queue.push(3);
        queue.done();
        queue.wait_until_idle().await;
        assert_eq!(queue.first().await, None);
    }

    proptest! {
        #[test]
        fn what_is_given_out_is_in_order_and_with_what_was_given_up_is_all(pushes in prop::collection::vec(0..400_usize, 1..6)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let queue = Queue::new();
            let (mut pushed, mut taken) = (0, Vec::new());
            for many in pushes {
                for _ in 0..many {
                    queue.push(pushed);
                    pushed += 1;
                }
                if queue.counts().0 > 0 {
                    taken.extend(runtime.block_on(queue.first()));
                    queue.done();
                }
            }
            let (left, dropped) = queue.counts();
            prop_assert!(left <= MOST);
            prop_assert!(taken.is_sorted());
            prop_assert_eq!(taken.len() + left + dropped as usize, pushed);
        }
    }
}
