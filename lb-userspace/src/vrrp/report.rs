//! What an instance tells about itself, kept by its driver and read by everyone else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::machine::{Machine, Peer};
use super::wire::Discard;
use crate::config::model;
use crate::status::{self, InstanceState};

/// The reader's end; cheap, and never keeps the driver waiting.
#[derive(Debug, Clone)]
pub(super) struct Reader(Arc<Mutex<status::Instance>>);

impl Reader {
    pub(super) fn snapshot(&self) -> status::Instance {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Report {
    now: status::Instance,
    published: Arc<Mutex<status::Instance>>,
}

impl Report {
    pub(super) fn new(config: &model::Instance) -> (Self, Reader) {
        let states =
            [InstanceState::Init, InstanceState::Backup, InstanceState::Master, InstanceState::Fault];
        let mut now = status::Instance {
            name: config.name.clone(),
            interface: config.interface.clone(),
            vrid: config.vrid.as_u8(),
            priority: config.priority.as_u8(),
            state: InstanceState::Init,
            since: seconds_since_epoch(),
            reason: String::new(),
            peer: None,
            second_master: false,
            second_masters: 0,
            addresses: Vec::new(),
            advertisements_sent: 0,
            advertisements_received: 0,
            pseudo_header_checksums: 0,
            discarded: Discard::ALL.iter().map(|reason| (reason.as_str().to_owned(), 0)).collect(),
            transitions: states.into_iter().map(|state| (state, 0)).collect::<BTreeMap<_, _>>(),
        };
        now.transitions.insert(InstanceState::Init, 1);
        let published = Arc::new(Mutex::new(now.clone()));
        let mut report = Self { now, published: Arc::clone(&published) };
        report.reconfigured(config);
        (report, Reader(published))
    }

    pub(super) fn reconfigured(&mut self, config: &model::Instance) {
        self.now.name.clone_from(&config.name);
        self.now.priority = config.priority.as_u8();
        self.now.addresses = config.addresses.iter().map(|address| address.prefix.to_string()).collect();
    }

    pub(super) fn entered(&mut self, state: InstanceState) {
        self.now.since = seconds_since_epoch();
        *self.now.transitions.entry(state).or_default() += 1;
    }

    pub(super) fn sent(&mut self) {
        self.now.advertisements_sent += 1;
    }

    pub(super) fn received(&mut self, peer: Peer, pseudo_header: bool) {
        self.now.advertisements_received += 1;
        self.now.pseudo_header_checksums += u64::from(pseudo_header);
        self.now.peer = Some(status::Peer {
            address: peer.address,
            priority: peer.priority,
            heard_at: seconds_since_epoch(),
        });
    }

    pub(super) fn discarded(&mut self, reason: Discard) {
        if let Some(count) = self.now.discarded.get_mut(reason.as_str()) {
            *count += 1;
        }
    }

    pub(super) fn second_master_began(&mut self) {
        self.now.second_masters += 1;
    }

    /// Makes everything so far visible; `false` when a reader is just copying: try again soon.
    pub(super) fn publish(&mut self, machine: &Machine, now: std::time::Instant) -> bool {
        self.now.state = machine.state();
        self.now.reason = machine.reason().to_string();
        self.now.second_master = machine.second_master(now);
        let mut published = match self.published.try_lock() {
            Ok(published) => published,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        published.clone_from(&self.now);
        true
    }
}

/// The snapshot of an instance that does not run yet.
#[must_use]
pub fn not_started(config: &model::Instance, why: &str) -> status::Instance {
    let (_, reader) = Report::new(config);
    status::Instance { reason: why.to_owned(), ..reader.snapshot() }
}

fn seconds_since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
