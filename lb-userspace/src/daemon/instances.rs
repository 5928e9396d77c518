//! The VRRP instances as the daemon holds them: started, changed in place, stopped.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::config::model::{Config, Instance};
use crate::status;
use crate::vrrp::guard::Guard;
use crate::vrrp::{self, Handle, StartError};

pub(super) struct Instances {
    guard: Guard,
    events: mpsc::Sender<vrrp::Event>,
    running: BTreeMap<Identity, Handle>,
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
    pub(super) fn new(guard: Guard, events: mpsc::Sender<vrrp::Event>) -> Self {
        Self { guard, events, running: BTreeMap::new() }
    }

    /// Starts what is new, before anything else is touched, so that a failure changes nothing.
    ///
    /// # Errors
    /// No socket or no thread for an instance.
    pub(super) async fn configure(&mut self, config: &Config) -> Result<(), StartError> {
        let mut started = BTreeMap::new();
        for instance in &config.vrrp {
            let identity = Identity::of(instance);
            if !self.running.contains_key(&identity) {
                match vrrp::spawn(instance.clone(), self.guard.clone(), self.events.clone()) {
                    Ok(handle) => started.insert(identity, handle),
                    Err(error) => {
                        stop(started).await;
                        return Err(error);
                    }
                };
            }
        }
        let wanted: BTreeMap<Identity, &Instance> =
            config.vrrp.iter().map(|instance| (Identity::of(instance), instance)).collect();
        let (kept, gone) =
            std::mem::take(&mut self.running).into_iter().partition(|(id, _)| wanted.contains_key(id));
        self.running = kept;
        for (identity, handle) in &self.running {
            handle.reconfigure(wanted[identity].clone());
        }
        stop(gone).await;
        self.running.append(&mut started);
        Ok(())
    }

    /// Gives every instance's mastership away.
    pub(super) async fn stop(self) {
        stop(self.running).await;
    }

    pub(super) fn snapshots(&self) -> Vec<status::Instance> {
        self.running.values().map(Handle::snapshot).collect()
    }
}

/// All at once: each waits for its addresses to be gone.
async fn stop(handles: BTreeMap<Identity, Handle>) {
    let mut stops: tokio::task::JoinSet<()> = handles.into_values().map(Handle::stop).collect();
    while stops.join_next().await.is_some() {}
}
