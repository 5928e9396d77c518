//! What the instances of a group tell about themselves, kept by their driver and read by everyone else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::channel::Settings;
use super::machine::{Machine, Outlook};
use super::wire::Discard;
use crate::config::model::{Instance, Version};
use crate::status::{self, InstanceState};
use crate::track;

/// The reader's end; cheap, and never keeps the driver waiting.
#[derive(Debug, Clone)]
pub(super) struct Reader(Arc<Mutex<Published>>);

#[derive(Debug, Default)]
struct Published {
    instances: Vec<status::Instance>,
    /// Of all of them.
    outlook: Option<Outlook>,
}

impl Reader {
    /// In the order of the configuration.
    pub(super) fn snapshot(&self) -> Vec<status::Instance> {
        let copy = |published: &Published| (published.instances.clone(), published.outlook);
        let (mut instances, outlook) = copy(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(outlook) = outlook {
            let outlook = outlook.in_words(Instant::now());
            instances.iter_mut().for_each(|instance| instance.reason += &format!("; {outlook}"));
        }
        instances
    }
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Reports {
    now: Vec<status::Instance>,
    /// The instance of each of the machine's channels.
    members: Vec<usize>,
    published: Arc<Mutex<Published>>,
}

impl Reports {
    pub(super) fn new(group: &[Instance]) -> (Self, Reader) {
        let published = Arc::<Mutex<Published>>::default();
        let mut reports = Self { now: Vec::new(), members: Vec::new(), published: Arc::clone(&published) };
        reports.reconfigured(group);
        published.lock().unwrap_or_else(PoisonError::into_inner).instances.clone_from(&reports.now);
        (reports, Reader(published))
    }

    /// An instance that stays the same virtual router keeps its counts.
    pub(super) fn reconfigured(&mut self, group: &[Instance]) {
        let state = self.now.first().map(|now| (now.state, now.since, now.reason.clone()));
        let tracked = self.now.first().map(|now| now.tracked.clone()).unwrap_or_default();
        let mut old = std::mem::take(&mut self.now);
        for instance in group {
            let is_same = |old: &status::Instance| {
                (&old.interface, old.vrid) == (&instance.interface, instance.vrid.as_u8())
            };
            // Two may be at the same place, one for each family.
            let is_it = |old: &status::Instance| is_same(old) && old.name == instance.name;
            let mut now = match old.iter().position(is_it).or_else(|| old.iter().position(is_same)) {
                Some(index) => old.swap_remove(index),
                None => new(instance),
            };
            if let Some((state, since, reason)) = &state {
                (now.state, now.since) = (*state, *since);
                now.reason.clone_from(reason);
            }
            now.tracked.clone_from(&tracked);
            describe(&mut now, instance);
            self.now.push(now);
        }
        self.members = Settings::of(group).iter().map(|settings| settings.member).collect();
    }

    pub(super) fn entered(&mut self, state: InstanceState) {
        for now in &mut self.now {
            now.since = seconds_since_epoch();
            *now.transitions.entry(state).or_default() += 1;
        }
    }

    pub(super) fn sent(&mut self, member: usize, packets: u64) {
        if let Some(now) = self.now.get_mut(member) {
            now.advertisements_sent += packets;
        }
    }

    pub(super) fn received(&mut self, member: usize, pseudo_header: bool) {
        if let Some(now) = self.now.get_mut(member) {
            now.advertisements_received += 1;
            now.pseudo_header_checksums += u64::from(pseudo_header);
        }
    }

    pub(super) fn discarded(&mut self, member: usize, reason: Discard) {
        let now = self.now.get_mut(member);
        if let Some(now) = now
            && let Some(count) = now.discarded.get_mut(reason.as_str())
        {
            *count += 1;
            now.last_discarded =
                Some(status::Discarded { reason: reason.as_str().to_owned(), at: seconds_since_epoch() });
        }
    }

    pub(super) fn lost_transition(&mut self, member: usize) {
        if let Some(now) = self.now.get_mut(member) {
            now.lost_transitions += 1;
        }
    }

    pub(super) fn second_master_began(&mut self) {
        for now in &mut self.now {
            now.second_masters += 1;
        }
    }

    pub(super) fn tracked(&mut self, subjects: &[track::Tracked]) {
        for now in &mut self.now {
            now.tracked = subjects.iter().map(tracked).collect();
        }
    }

    /// Makes everything so far visible; `false` when a reader is just copying: try again soon.
    pub(super) fn publish(&mut self, machine: &Machine, now: Instant) -> bool {
        for (member, instance) in self.now.iter_mut().enumerate() {
            instance.state = machine.state();
            instance.reason = machine.reason().to_string();
            instance.priority = machine.effective_priority().as_u8();
            instance.second_master = machine.second_master(now);
            instance.stands_back = machine.yielded();
            instance.unheard_by = machine.unheard_by(now).map(|peer| peer.address);
            let channels = self.members.iter().enumerate().filter(|(_, of)| **of == member);
            instance.heard = channels.flat_map(|(channel, _)| heard(machine, channel, now)).collect();
            instance.heard.sort_by(|a, b| b.heard_at.total_cmp(&a.heard_at));
            instance.peer = instance.heard.first().cloned();
        }
        let mut published = match self.published.try_lock() {
            Ok(published) => published,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        published.instances.clone_from(&self.now);
        published.outlook = machine.outlook();
        true
    }
}

fn heard(machine: &Machine, channel: usize, now: Instant) -> impl Iterator<Item = status::Peer> {
    let since_epoch = seconds_since_epoch();
    machine.nodes(channel).iter().map(move |node| status::Peer {
        address: node.peer.address,
        priority: node.peer.priority,
        heard_at: since_epoch - now.saturating_duration_since(node.heard_at).as_secs_f64(),
    })
}

fn new(instance: &Instance) -> status::Instance {
    let states = [InstanceState::Init, InstanceState::Backup, InstanceState::Master, InstanceState::Fault];
    let mut transitions: BTreeMap<_, _> = states.into_iter().map(|state| (state, 0)).collect();
    transitions.insert(InstanceState::Init, 1);
    status::Instance {
        name: instance.name.clone(),
        group: None,
        interface: instance.interface.clone(),
        vrid: instance.vrid.as_u8(),
        version: 3,
        virtual_mac: false,
        configured_priority: 0,
        priority: instance.priority.as_u8(),
        state: InstanceState::Init,
        since: seconds_since_epoch(),
        reason: String::new(),
        note: None,
        stands_back: false,
        unheard_by: None,
        peer: None,
        heard: Vec::new(),
        tracked: Vec::new(),
        second_master: false,
        second_masters: 0,
        addresses: Vec::new(),
        advertisements_sent: 0,
        advertisements_received: 0,
        pseudo_header_checksums: 0,
        refused_packets: None,
        last_discarded: None,
        discarded: Discard::ALL.iter().map(|reason| (reason.as_str().to_owned(), 0)).collect(),
        transitions,
        lost_transitions: 0,
    }
}

fn describe(now: &mut status::Instance, instance: &Instance) {
    now.name.clone_from(&instance.name);
    now.group.clone_from(&instance.group);
    now.version = match instance.version {
        Version::V2 => 2,
        Version::V3 => 3,
    };
    now.virtual_mac = instance.virtual_mac;
    now.configured_priority = instance.priority.as_u8();
    now.addresses = instance.addresses.iter().map(|address| address.prefix.to_string()).collect();
}

/// The snapshots of instances that do not run yet.
#[must_use]
pub fn not_started(group: &[Instance], why: &str) -> Vec<status::Instance> {
    let (_, reader) = Reports::new(group);
    let mut instances = reader.snapshot();
    instances.iter_mut().for_each(|instance| why.clone_into(&mut instance.reason));
    instances
}

fn tracked(tracked: &track::Tracked) -> status::Tracked {
    let track::Tracked { subject, ok, effect, detail, since } = tracked.clone();
    let since = since.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    status::Tracked { subject, ok, effect, detail, since }
}

fn seconds_since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
