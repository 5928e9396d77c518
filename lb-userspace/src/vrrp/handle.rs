//! Starts and stops an instance, and what the daemon holds of it.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::driver::Driver;
use super::keeper::{Keeper, Registration, Released, Wanted};
use super::log::flushed;
use super::machine::{Peer, Reason, leave_limit};
use super::report::{Reader, Report};
use super::{realtime, socket};
use crate::config::model;
use crate::status::{self, InstanceState};

/// For the addresses to be gone, after the machine's wait for its successor.
const RELEASE_LIMIT: Duration = Duration::from_secs(3);

/// What happened in an instance, as it happens and best effort; the snapshot is the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Transition {
        instance: String,
        from: InstanceState,
        to: InstanceState,
        reason: Reason,
    },
    /// Another node claims to be master while this one is; once for each time that begins.
    SecondMaster {
        instance: String,
        peer: Peer,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("instance {instance}: cannot open a VRRP socket: {source}; run as root or grant CAP_NET_RAW")]
    Socket { instance: String, source: io::Error },
    #[error("instance {instance}: cannot start a thread: {source}")]
    Thread { instance: String, source: io::Error },
}

/// A running instance. Dropping it stops the instance, without waiting for the addresses to be gone.
#[derive(Debug)]
pub struct Handle {
    name: String,
    /// The last one counts.
    config: watch::Sender<model::Instance>,
    reader: Reader,
    released: Released,
}

/// Starts an instance on a thread of its own, in the caller's network namespace. An interface that is missing or
/// down is no error: the instance says so and waits for it.
///
/// # Errors
/// Without the right to open a raw socket, or when a thread cannot be started.
pub fn spawn(
    instance: model::Instance,
    keeper: &Keeper,
    events: mpsc::Sender<Event>,
) -> Result<Handle, StartError> {
    let name = instance.name.clone();
    socket::open_raw().map_err(|source| StartError::Socket { instance: name.clone(), source })?;
    let (config, config_receiver) = watch::channel(instance.clone());
    let (report, reader) = Report::new(&instance);

    let Registration { wanted, seen, released } = keeper.register(name.clone(), Wanted::of([&instance]));
    let driver = Driver::new(instance, report, config_receiver, seen, wanted, events);
    run_on_thread(format!("vrrp {name}"), driver.run())
        .map_err(|source| StartError::Thread { instance: name.clone(), source })?;
    Ok(Handle { name, config, reader, released })
}

fn run_on_thread(thread: String, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(thread).spawn(move || {
        realtime::enter();
        runtime.block_on(task);
    })?;
    Ok(())
}

impl Handle {
    /// As of the last event; never keeps the instance waiting.
    #[must_use]
    pub fn snapshot(&self) -> status::Instance {
        self.reader.snapshot()
    }

    /// Changes priority, interval, preemption, name or addresses in place, without delaying or repeating an
    /// advertisement. Another interface or VRID is another instance: stop this one and start that.
    pub fn reconfigure(&self, instance: model::Instance) {
        if self.config.send(instance).is_err() {
            tracing::error!(instance = self.name, "the instance's thread has ended: its configuration stays");
        }
    }

    /// Tells the other nodes that this one stops, serves on until one of them is master, at most
    /// [`leave_limit`] of its interval, releases the addresses, and waits for all that.
    pub async fn stop(self) {
        let Self { name, config, released, .. } = self;
        let limit = leave_limit(config.borrow().advertise) + RELEASE_LIMIT;
        drop(config);
        let ended = async {
            released.wait().await;
            flushed().await;
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::error!(instance = name, "its addresses were not released in {limit:?}");
        }
    }
}
