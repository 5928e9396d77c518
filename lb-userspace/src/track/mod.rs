//! What the priority of VRRP instances depends on: interfaces, scripts, files, processes, gateways and services.
//!
//! ```text
//! netlink, programs, files, /proc, ARP/ND ──► drivers ─┐ findings
//! daemon: backends of a service that are up ───────────┴──────► machine ──► watch::Receiver<TrackState>, one a group
//! ```
//!
//! Each subject has one tracker, however many groups track it. The drivers are tasks; none waits for another, and no thread
//! of VRRP waits for any. docs/tracking.md has the semantics.

mod drivers;
mod file;
mod gateway;
mod interface;
pub mod machine;
mod process;
mod script;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use self::drivers::Drivers;
use self::machine::{Change, Finding, Machine, Standing};
use crate::config::model::{Subject, Track};

/// Name of a group; of an instance without one, the caller's name for it.
pub type GroupId = String;

/// What the subjects of a group come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackState {
    /// Sum of the weights, to be added to the priority; not limited to what a priority can be.
    pub adjustment: i32,
    /// Why the group is in fault, for a person.
    pub fault: Option<String>,
    /// In the order of the configuration.
    pub subjects: Vec<Tracked>,
}

/// One subject as one group tracks it; texts are for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    pub subject: String,
    /// It neither lowers the priority nor puts the group in fault.
    pub ok: bool,
    /// `fault`, `-60`, `+20`, `number × -2`.
    pub effect: String,
    /// What was found last.
    pub detail: String,
    /// When the present standing was found first.
    pub since: SystemTime,
}

/// The trackers of all groups; dropped, they stop.
#[derive(Debug)]
pub struct Trackers {
    shared: Arc<Shared>,
    drivers: Drivers,
}

impl Trackers {
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts tasks")]
    pub fn new() -> Self {
        let shared = Arc::<Shared>::default();
        let drivers = Drivers::start(&Reporter(shared.clone()));
        Self { shared, drivers }
    }

    /// Makes these the groups and what they track. What stays is not disturbed; the receivers of groups that are gone are
    /// closed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn configure(&mut self, groups: BTreeMap<GroupId, Vec<Track>>) {
        let subjects = groups.values().flatten().map(|track| track.subject.clone()).collect();
        let mut core = self.shared.core();
        let changes = core.machine.configure(groups.clone(), SystemTime::now());
        core.states.retain(|group, _| groups.contains_key(group));
        for group in groups.into_keys() {
            core.states.entry(group).or_insert_with(|| watch::Sender::new(TrackState::default()));
        }
        self.shared.publish(&core, core.states.keys());
        drop(core);
        changes.iter().for_each(log);
        self.drivers.apply(subjects);
    }

    /// Tells how many backends of a service are up, and of how many the first check has not finished. To be called at the
    /// start and whenever one of the numbers changes.
    pub fn service(&self, name: &str, up: u32, checking: u32) {
        let mut core = self.shared.core();
        let changes = core.machine.handle_service(name, up, checking, SystemTime::now());
        self.shared.publish(&core, core.states.keys());
        drop(core);
        changes.iter().for_each(log);
    }

    /// `None` for a group that is not configured.
    #[must_use]
    pub fn state(&self, group: &str) -> Option<watch::Receiver<TrackState>> {
        self.shared.core().states.get(group).map(watch::Sender::subscribe)
    }
}

#[derive(Debug, Default)]
struct Shared {
    core: Mutex<Core>,
}

#[derive(Debug, Default)]
struct Core {
    machine: Machine,
    states: BTreeMap<GroupId, watch::Sender<TrackState>>,
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish<'a>(&self, core: &Core, groups: impl IntoIterator<Item = &'a GroupId>) {
        for group in groups {
            let Some(sender) = core.states.get(group) else { continue };
            let state = core.machine.state(group);
            sender.send_if_modified(|present| {
                let differs = *present != state;
                *present = state;
                differs
            });
        }
    }
}

/// Where drivers say what they found.
#[derive(Debug, Clone)]
struct Reporter(Arc<Shared>);

impl Reporter {
    fn found(&self, subject: &Subject, finding: Finding) {
        let mut core = self.0.core();
        let change = core.machine.handle_finding(subject, finding, SystemTime::now());
        self.0.publish(&core, core.machine.groups_of(subject));
        drop(core);
        change.iter().for_each(log);
    }
}

fn log(change: &Change) {
    let Change { subject, from, to, detail } = change;
    match (from, to) {
        (Standing::Unknown, Standing::Well) => tracing::debug!("tracked {subject} is well: {detail}"),
        (_, Standing::Ill) => tracing::warn!("tracked {subject} fails: {detail}"),
        (_, Standing::Well) => tracing::info!("tracked {subject} is well again: {detail}"),
        (_, Standing::Number(_) | Standing::Unknown) => tracing::info!("tracked {subject}: {detail}"),
    }
}
