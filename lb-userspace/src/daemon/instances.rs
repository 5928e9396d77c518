//! The VRRP instances as the daemon holds them: started, changed in place, stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, future};

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::model::{Config, Instance, Track};
use crate::status;
use crate::track::{TrackState, Trackers};
use crate::vrrp::{self, Failover, FailoverError, Handle, Keeper, StartError};

pub(super) struct Instances {
    keeper: Keeper,
    trackers: Trackers,
    /// What is tracked for each group in force, by its identity.
    tracks: BTreeMap<String, Vec<Track>>,
    events: mpsc::Sender<vrrp::Event>,
    running: BTreeMap<Identity, Handle>,
    /// Each ends when its addresses are gone, which takes up to seconds.
    stops: JoinSet<Identity>,
    stopping: BTreeSet<Identity>,
    /// Wanted again while their predecessors stop.
    waiting: BTreeMap<Identity, Group>,
}

/// Instances that have one state, in the order of the configuration.
type Group = Vec<Instance>;

#[derive(Debug, Error)]
#[error("there is no instance {name}; there are: {known}")]
pub(super) struct UnknownInstance {
    name: String,
    known: String,
}

/// What cannot change while a group lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Group(String),
    /// An instance without a group: its place on the wire.
    Alone {
        interface: String,
        vrid: u8,
        /// Beside one of IPv4, an instance of IPv6 alone is another virtual router.
        only_ipv6: bool,
    },
}

impl Identity {
    fn of(instance: &Instance) -> Self {
        match &instance.group {
            Some(group) => Self::Group(group.clone()),
            None => Self::Alone {
                interface: instance.interface.clone(),
                vrid: instance.vrid.as_u8(),
                only_ipv6: instance.ipv4().next().is_none(),
            },
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "group {name}"),
            Self::Alone { interface, vrid, only_ipv6: false } => write!(f, "VRID {vrid} on {interface}"),
            Self::Alone { interface, vrid, only_ipv6: true } => {
                write!(f, "VRID {vrid} of IPv6 on {interface}")
            }
        }
    }
}

fn groups(config: &Config) -> BTreeMap<Identity, Group> {
    let mut groups: BTreeMap<Identity, Group> = BTreeMap::new();
    for instance in &config.vrrp {
        groups.entry(Identity::of(instance)).or_default().push(instance.clone());
    }
    groups
}

impl Instances {
    pub(super) fn new(keeper: Keeper, events: mpsc::Sender<vrrp::Event>) -> Self {
        Self {
            keeper,
            trackers: Trackers::new(),
            tracks: BTreeMap::new(),
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
        let wanted = groups(config);
        let tracks = wanted.iter().map(|(identity, group)| {
            (identity.to_string(), group.iter().flat_map(|instance| instance.track.clone()).collect())
        });
        let tracks: BTreeMap<_, _> = tracks.collect();
        self.trackers.configure(tracks.clone());
        let mut started = BTreeMap::new();
        let mut waiting = BTreeMap::new();
        for (identity, group) in &wanted {
            if self.running.contains_key(identity) {
                continue;
            }
            if self.stopping.contains(identity) {
                waiting.insert(identity.clone(), group.clone());
                continue;
            }
            match self.spawn(identity, group) {
                Ok(handle) => drop(started.insert(identity.clone(), handle)),
                Err(error) => {
                    self.stop_in_background(started);
                    self.trackers.configure(self.tracks.clone());
                    return Err(error);
                }
            }
        }
        self.tracks = tracks;
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
        for (identity, group) in std::mem::take(&mut self.waiting) {
            if self.stopping.contains(&identity) {
                self.waiting.insert(identity, group);
                continue;
            }
            match self.spawn(&identity, &group) {
                Ok(handle) => drop(self.running.insert(identity, handle)),
                Err(error) => {
                    tracing::error!("{error}; trying again");
                    self.waiting.insert(identity, group);
                }
            }
        }
    }

    /// How many backends of a service are up, and of how many the first check has not finished.
    pub(super) fn service(&self, name: &str, up: u32, checking: u32) {
        self.trackers.service(name, up, checking);
    }

    /// The handover of the instance of that name, and of those that move with it.
    ///
    /// # Errors
    /// There is no such instance.
    pub(super) fn failover(&self, name: &str) -> Result<Failover, UnknownInstance> {
        self.named(name).map(|handle| handle.failover(name))
    }

    /// Lets it preempt again.
    ///
    /// # Errors
    /// There is no such instance, or it does not answer.
    pub(super) fn take_back(&self, name: &str) -> Result<Result<(), FailoverError>, UnknownInstance> {
        self.named(name).map(|handle| handle.take_back(name))
    }

    fn named(&self, name: &str) -> Result<&Handle, UnknownInstance> {
        let has_it = |handle: &&Handle| handle.snapshot().iter().any(|instance| instance.name == name);
        self.running.values().find(has_it).ok_or_else(|| UnknownInstance {
            name: name.to_owned(),
            known: self.snapshots().into_iter().map(|instance| instance.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Gives every instance's mastership away, all at once; each waits for its addresses to be gone.
    pub(super) async fn stop(&mut self) {
        let running = std::mem::take(&mut self.running);
        self.stop_in_background(running);
        while self.stops.join_next().await.is_some() {}
    }

    pub(super) fn snapshots(&self) -> Vec<status::Instance> {
        let waiting = self.waiting.values().flat_map(|group| {
            vrrp::not_started(group, "waits for the instance that had its interface and VRID to stop")
        });
        self.running().chain(waiting).collect()
    }

    /// Without those that wait for others to stop.
    pub(super) fn running(&self) -> impl Iterator<Item = status::Instance> {
        self.running.values().flat_map(Handle::snapshot)
    }

    fn spawn(&self, identity: &Identity, group: &[Instance]) -> Result<Handle, StartError> {
        let tracking = self.trackers.state(&identity.to_string()).unwrap_or_else(untracked);
        vrrp::spawn(group.to_vec(), &self.keeper, tracking, self.events.clone())
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

fn untracked() -> watch::Receiver<TrackState> {
    watch::channel(TrackState::default()).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Host, parse};

    #[test]
    fn instances_of_both_families_at_one_place_are_two_and_those_of_a_group_are_one() {
        let text = r#"
interfaces: [eth0]
vrrp:
  - { name: v4, interface: eth0, vrid: 51, addresses: [192.0.2.10/24] }
  - { name: v6, interface: eth0, vrid: 51, addresses: ["2001:db8::10/64"] }
  - { name: both, interface: eth0, vrid: 52, group: edge, addresses: [192.0.2.20/24, "2001:db8::20/64"] }
  - { name: other, interface: eth0, vrid: 53, group: edge, addresses: ["2001:db8::30/64"] }
"#;
        let host = Host { hostname: "lb".into(), interfaces: ["eth0".to_owned()].into() };
        let groups = groups(&parse(text, "a.yaml", &host).unwrap());
        let names = |group: &Group| group.iter().map(|instance| instance.name.clone()).collect::<Vec<_>>();
        let named: BTreeMap<_, _> = groups.iter().map(|(id, group)| (id.to_string(), names(group))).collect();
        let expected = [
            ("VRID 51 on eth0", vec!["v4"]),
            ("VRID 51 of IPv6 on eth0", vec!["v6"]),
            ("group edge", vec!["both", "other"]),
        ];
        let expected = expected
            .map(|(id, names)| (id.to_owned(), names.into_iter().map(str::to_owned).collect::<Vec<_>>()));
        assert_eq!(named, BTreeMap::from(expected));
    }
}
