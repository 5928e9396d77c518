//! What became of packets to addresses of instances that do not accept them, for readers on any thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::model::Vrid;
use crate::dataplane::refuse::Refused;
use crate::status;

/// What tells an instance from others: its interface and number.
pub(super) type Identity = (String, u8);

pub(super) fn identity(interface: &str, vrid: Vrid) -> Identity {
    (interface.to_owned(), vrid.as_u8())
}

/// Clones share it. It is locked for moments only.
#[derive(Debug, Clone, Default)]
pub(in crate::vrrp) struct Refusals(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    counters: BTreeMap<Identity, Counter>,
    /// `None` while the program is not loaded.
    refused: Option<Arc<Refused>>,
    problem: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    number: u32,
    /// What an earlier instance left in it.
    before: u64,
}

impl Refusals {
    /// Tells the instances what was dropped, or why nothing is.
    pub(in crate::vrrp) fn describe(&self, instances: &mut [status::Instance]) {
        for instance in instances {
            let (counter, refused) = {
                let state = self.lock();
                let identity = (instance.interface.clone(), instance.vrid);
                let Some(counter) = state.counters.get(&identity).copied() else { continue };
                instance.note.clone_from(&state.problem);
                (counter, state.refused.clone())
            };
            let packets = refused.and_then(|refused| refused.packets(counter.number).ok());
            instance.refused_packets = packets.map(|packets| packets.saturating_sub(counter.before));
        }
    }

    pub(super) fn loaded(&self, refused: Arc<Refused>) {
        let mut state = self.lock();
        state.counters.clear();
        state.refused = Some(refused);
    }

    pub(super) fn unloaded(&self) {
        *self.lock() = State::default();
    }

    pub(super) fn set_problem(&self, problem: Option<String>) {
        self.lock().problem = problem;
    }

    /// Gives each of these instances a counter; those that have one keep it.
    pub(super) fn count_for(&self, instances: &BTreeSet<Identity>) {
        let mut state = self.lock();
        state.counters.retain(|identity, _| instances.contains(identity));
        let taken: BTreeSet<u32> = state.counters.values().map(|counter| counter.number).collect();
        let mut free = (0..).filter(|number| !taken.contains(number));
        for identity in instances {
            if state.counters.contains_key(identity) {
                continue;
            }
            let Some(number) = free.next() else { return };
            let before = state.refused.as_ref().and_then(|refused| refused.packets(number).ok());
            let counter = Counter { number, before: before.unwrap_or(0) };
            state.counters.insert(identity.clone(), counter);
        }
    }

    pub(super) fn counter(&self, identity: &Identity) -> Option<u32> {
        self.lock().counters.get(identity).map(|counter| counter.number)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
