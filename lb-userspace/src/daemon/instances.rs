//! The VRRP instances as the daemon holds them: started, changed in place, stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::future;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::model::{Config, Instance};
use crate::status;
use crate::vrrp::{self, Handle, Keeper, StartError};

pub(super) struct Instances {
    keeper: Keeper,
    events: mpsc::Sender<vrrp::Event>,
    running: BTreeMap<Identity, Handle>,
    /// Each ends when its addresses are gone, which takes up to seconds.
    stops: JoinSet<Identity>,
    stopping: BTreeSet<Identity>,
    /// Wanted again while their predecessors stop.
    waiting: BTreeMap<Identity, Instance>,
}

/// What cannot change while an instance lives: its group on the wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    interface: String,
    vrid: u8,
}

impl Identity {
    fn of(instance: &Instance) -> Self {
        Self { interface: instance.interface.clone(), vrid: instance.vrid.as_u8() }
    }
}

impl Instances {
    pub(super) fn new(keeper: Keeper, events: mpsc::Sender<vrrp::Event>) -> Self {
        Self {
            keeper,
            events,
            running: BTreeMap::new(),
            stops: JoinSet::new(),
            stopping: BTreeSet::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Starts what is new, before anything else is touched, so that a failure changes nothing. Does not wait for what
    /// stops.
    ///
    /// # Errors
    /// No socket or no thread for an instance.
    pub(super) fn configure(&mut self, config: &Config) -> Result<(), StartError> {
        let wanted: BTreeMap<Identity, &Instance> =
            config.vrrp.iter().map(|instance| (Identity::of(instance), instance)).collect();
        let mut started = BTreeMap::new();
        let mut waiting = BTreeMap::new();
        for (identity, instance) in &wanted {
            if self.running.contains_key(identity) {
                continue;
            }
            if self.stopping.contains(identity) {
                waiting.insert(identity.clone(), (*instance).clone());
                continue;
            }
            match self.spawn(instance) {
                Ok(handle) => drop(started.insert(identity.clone(), handle)),
                Err(error) => {
                    self.stop_in_background(started);
                    return Err(error);
                }
            }
        }
        self.waiting = waiting;
        let (kept, gone) =
            std::mem::take(&mut self.running).into_iter().partition(|(id, _)| wanted.contains_key(id));
        self.running = kept;
        for (identity, handle) in &self.running {
            handle.reconfigure(wanted[identity].clone());
        }
        self.stop_in_background(gone);
        self.running.append(&mut started);
        Ok(())
    }

    /// Until an instance has stopped; then its successor is started, if it has one. May be dropped while it waits.
    pub(super) async fn stopped(&mut self) {
        match self.stops.join_next().await {
            Some(Ok(identity)) => drop(self.stopping.remove(&identity)),
            // It tells no identity; by the end of all of them none is left.
            Some(Err(error)) => tracing::error!("an instance did not stop as it should: {error}"),
            None => return future::pending().await,
        }
        if self.stops.is_empty() {
            self.stopping.clear();
        }
        self.start_waiting();
    }

    /// Starts instances whose predecessors are gone. One that cannot be started is tried again with the next call.
    pub(super) fn start_waiting(&mut self) {
        for (identity, instance) in std::mem::take(&mut self.waiting) {
            if self.stopping.contains(&identity) {
                self.waiting.insert(identity, instance);
                continue;
            }
            match self.spawn(&instance) {
                Ok(handle) => drop(self.running.insert(identity, handle)),
                Err(error) => {
                    tracing::error!("{error}; trying again");
                    self.waiting.insert(identity, instance);
                }
            }
        }
    }

    /// Gives every instance's mastership away, all at once; each waits for its addresses to be gone.
    pub(super) async fn stop(mut self) {
        let running = std::mem::take(&mut self.running);
        self.stop_in_background(running);
        while self.stops.join_next().await.is_some() {}
    }

    pub(super) fn snapshots(&self) -> Vec<status::Instance> {
        let waiting = self.waiting.values().map(|instance| {
            vrrp::not_started(instance, "waits for the instance that had its interface and VRID to stop")
        });
        self.running.values().map(Handle::snapshot).chain(waiting).collect()
    }

    fn spawn(&self, instance: &Instance) -> Result<Handle, StartError> {
        vrrp::spawn(instance.clone(), &self.keeper, self.events.clone())
    }

    fn stop_in_background(&mut self, handles: BTreeMap<Identity, Handle>) {
        for (identity, handle) in handles {
            self.stopping.insert(identity.clone());
            self.stops.spawn(async move {
                handle.stop().await;
                identity
            });
        }
    }
}
