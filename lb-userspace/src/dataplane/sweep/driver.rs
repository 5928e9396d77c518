//! The thread that sweeps.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::{Census, Now, Orders, Sweeper};
use crate::dataplane::clock::Clock;
use crate::dataplane::flow_table::flow::Flow;
use crate::dataplane::flow_table::grace;

/// Least time between two sweeps; a sweep that takes long waits twenty times as long, so that it costs at most 5 % of
/// one CPU.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the thread is told and has not yet heard.
const UNHEARD: usize = 16;

#[derive(Debug, Error)]
#[error("cannot start the thread that lets flows expire: {0}")]
pub struct StartError(#[from] std::io::Error);

/// The thread listens no more, or has not yet heard what it was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the thread that lets flows expire does not keep up with what it is told; this comes again with the next change"
)]
pub struct Unheard;

enum Message {
    Orders(Box<Orders>),
    Kill { matches: Box<dyn FnMut(&Flow) -> bool + Send>, killed: oneshot::Sender<u64> },
}

/// Talks to the thread, and never waits for it.
#[derive(Clone)]
pub struct Handle(SyncSender<Message>);

impl Handle {
    /// What the next sweeps go by.
    ///
    /// # Errors
    /// It was not heard: try again later.
    pub fn order(&self, orders: Orders) -> Result<(), Unheard> {
        self.0.try_send(Message::Orders(Box::new(orders))).map_err(|_| Unheard)
    }

    /// Takes flows out of use, as [`Sweeper::kill_where`]; how many halves comes later.
    ///
    /// # Errors
    /// It was not heard: try again later.
    pub fn kill_where(
        &self,
        matches: impl FnMut(&Flow) -> bool + Send + 'static,
    ) -> Result<oneshot::Receiver<u64>, Unheard> {
        let (killed, answer) = oneshot::channel();
        let message = Message::Kill { matches: Box::new(matches), killed };
        self.0.try_send(message).map_err(|_| Unheard)?;
        Ok(answer)
    }
}

/// Sweeps until nobody listens to the censuses any more, or nobody can tell it anything.
///
/// # Errors
/// The thread could not be started.
pub fn start(
    sweeper: Sweeper,
    clock: Clock,
    orders: Orders,
    censuses: mpsc::Sender<Census>,
) -> Result<Handle, StartError> {
    let (told, messages) = sync_channel(UNHEARD);
    let thread = Thread { sweeper, clock, orders, censuses, messages };
    thread::Builder::new().name("sweep".into()).spawn(move || thread.run())?;
    Ok(Handle(told))
}

struct Thread {
    sweeper: Sweeper,
    clock: Clock,
    orders: Orders,
    censuses: mpsc::Sender<Census>,
    messages: Receiver<Message>,
}

impl Thread {
    fn run(mut self) {
        while !self.censuses.is_closed() {
            let mut waited = Duration::ZERO;
            let started = Instant::now();
            match clock_gettime(ClockId::CLOCK_MONOTONIC) {
                Ok(now) => {
                    let clock = self.clock;
                    let ticks = move |time| clock.ticks(time);
                    let now = Now { jiffies: clock.jiffies(now.into()), ticks: &ticks };
                    let census = self.sweeper.sweep(&self.orders, now, || {
                        let from = Instant::now();
                        grace::wait();
                        waited += from.elapsed();
                    });
                    if self.censuses.blocking_send(census).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!("flows do not expire: no clock: {error}"),
            }
            let worked = started.elapsed().saturating_sub(waited);
            if !self.listen(Instant::now() + INTERVAL.max(worked * 20)) {
                return;
            }
        }
    }

    /// Until it is time for the next sweep. `false`: nobody can tell anything any more.
    fn listen(&mut self, until: Instant) -> bool {
        loop {
            match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Orders(orders)) => self.orders = *orders,
                Ok(Message::Kill { matches, killed }) => {
                    let count = self.sweeper.kill_where(&self.orders.pool, matches);
                    // Who asked may have lost interest.
                    let _ = killed.send(count);
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}
