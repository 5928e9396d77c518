//! Keeps the virtual addresses of all groups of instances, and what belongs to them, on the host or off it, and watches the
//! interfaces. One thread does it for all of them.
//!
//! ```text
//!  wanted of every group ──► target ──┐                      ┌──► apply ──► netlink, sysctl
//!                                     ├──► plan ──► steps ───┤      └──► guard process (told before)
//!  kernel ──► mirror ─────────────────┘                      └──► announcer (paced)
//!                └──► seen, to each group
//! ```
//!
//! Level-triggered: at every change here or there what is is compared with what should be. So an address that somebody
//! deletes comes back, and one that a crash left behind goes.

mod announcer;
mod apply;
mod changes;
mod kernel;
mod mirror;
mod pacing;
mod plan;
#[cfg(test)]
mod plan_tests;
mod refusals;
mod refuser;
mod refusing;
mod seen;
mod settings;
mod target;
mod wanted;
mod worker;

use std::io;

use tokio::sync::{mpsc, oneshot, watch};

use super::guard::Guard;
use super::realtime;
pub(super) use refusals::Refusals;
use refuser::Refuser;
pub use wanted::{Member, Place, Seen, SeenChannel, Usable, Wanted, virtual_macs};
use worker::Worker;

/// The keeping thread. Clones share it; it ends when the last is dropped and everything is released.
#[derive(Debug, Clone)]
pub struct Keeper(
    // What waits in it is no more than the configuration has.
    mpsc::UnboundedSender<Registered>,
    Refusals,
);

/// A group's end.
#[derive(Debug)]
pub struct Registration {
    /// Dropping it releases everything.
    pub wanted: watch::Sender<Wanted>,
    /// `None` until the interfaces were looked at.
    pub seen: watch::Receiver<Option<Seen>>,
    pub released: Released,
}

/// Resolves when everything that the group held is gone.
#[derive(Debug)]
pub struct Released(oneshot::Receiver<()>);

impl Released {
    pub async fn wait(self) {
        // An error: the keeper has ended, and there is nothing to wait for.
        let _ = self.0.await;
    }
}

/// The keeper's end of a registration.
#[derive(Debug)]
struct Registered {
    name: String,
    wanted: watch::Receiver<Wanted>,
    seen: watch::Sender<Option<Seen>>,
    released: oneshot::Sender<()>,
}

impl Keeper {
    /// Starts the thread, in the caller's network namespace. What an earlier daemon left there is removed at once, as
    /// no group holds anything when it registers; addresses on kernels that do not keep the mark (before 5.18) when a group
    /// that knows of them registers.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(guard: Guard) -> io::Result<Self> {
        let (registrations, registered) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let refusals = Refusals::default();
        let refuser = Refuser::new(refusals.clone());
        std::thread::Builder::new().name("vrrp keeper".into()).spawn(move || {
            realtime::enter();
            runtime.block_on(Worker::new(guard, refuser, registered).run());
        })?;
        Ok(Self(registrations, refusals))
    }

    /// What the instances that do not accept have dropped.
    pub(super) fn refusals(&self) -> Refusals {
        self.1.clone()
    }

    /// Never waits. Should the thread have ended, `seen` is closed. The name is for the log.
    #[must_use]
    pub fn register(&self, name: String, wanted: Wanted) -> Registration {
        let (wanted, wanted_receiver) = watch::channel(wanted);
        let (seen_sender, seen) = watch::channel(None);
        let (release, released) = oneshot::channel();
        let registered = Registered { name, wanted: wanted_receiver, seen: seen_sender, released: release };
        // The thread drops what it can't take.
        let _ = self.0.send(registered);
        Registration { wanted, seen, released: Released(released) }
    }
}
