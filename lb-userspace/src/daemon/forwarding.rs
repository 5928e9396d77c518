//! The data plane as the daemon holds it: what is attached, what is in the maps, and what they should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lb_common::counters::BackendCounters;
use lb_common::service::NO_TABLE;
use nix::net::if_::if_nametoindex;
use thiserror::Error;

use crate::config::model::{Config, Interface};
use crate::dataplane::DataPlane;
use crate::dataplane::attach::{AttachError, Attached};
use crate::dataplane::maps::MapAccessError;
use crate::dataplane::sweep::Census;
use crate::desired::{Desired, Way};
use crate::net::links::Links;
use crate::net::next_hop::Found;
use crate::net::way::Unresolved;
use crate::reconcile::apply::{self, KnownTables};
use crate::reconcile::plan::{self, Actual, Circumstances, Plan, PlanError, Step, TableCache};
use crate::status::Traffic;

/// How long connections that were opening when a pool changed are given to show their next packet: a SYN is repeated
/// for about a minute (RFC 9293 section 3.8.3).
const SETTLING: Duration = Duration::from_secs(60);
/// Censuses in a row that find no flow of a draining backend before its number is free: the first may have begun before
/// the last flow was stored.
const QUIET_CENSUSES: u8 = 2;

#[derive(Debug, Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Map(#[from] MapAccessError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

pub(super) struct Forwarding {
    pub(super) plane: DataPlane,
    pub(super) attached: BTreeMap<String, Result<Attached, String>>,
    pub(super) actual: Actual,
    pub(super) plan: Plan,
    pub(super) unresolved: BTreeMap<IpAddr, Unresolved>,
    pub(super) census: Census,
    pub(super) expired: u64,
    /// What backends that have left had counted, by number of their service.
    pub(super) retired: BTreeMap<u32, BackendCounters>,
    /// Names of services by number, of those that were removed while backends of theirs drain too.
    pub(super) names: BTreeMap<u32, String>,
    pub(super) known: KnownTables,
    cache: TableCache,
    ways: BTreeMap<IpAddr, Way>,
    /// Empty until they were read.
    links: Links,
    quiet: BTreeMap<u32, u8>,
    /// When the table of a service changed last.
    turned: BTreeMap<u32, Instant>,
}

impl Forwarding {
    pub(super) fn new(plane: DataPlane) -> Self {
        Self {
            plane,
            attached: BTreeMap::new(),
            actual: Actual::default(),
            plan: Plan::default(),
            unresolved: BTreeMap::new(),
            census: Census::default(),
            expired: 0,
            retired: BTreeMap::new(),
            names: BTreeMap::new(),
            known: KnownTables::default(),
            cache: TableCache::default(),
            ways: BTreeMap::new(),
            links: Links::default(),
            quiet: BTreeMap::new(),
            turned: BTreeMap::new(),
        }
    }

    pub(super) const fn ways(&self) -> &BTreeMap<IpAddr, Way> {
        &self.ways
    }

    /// Brings the maps to what is desired.
    ///
    /// # Errors
    /// Nothing is changed if a map is too small; if one can't be written, the next call goes on.
    pub(super) fn reconcile(&mut self, desired: &Desired, now: Instant) -> Result<(), ReconcileError> {
        self.actual = apply::read(&mut self.plane, &mut self.known)?;
        let circumstances = self.circumstances(now);
        let plan = plan::plan(desired, &self.actual, &circumstances, &mut self.cache)?;
        // Before they are carried out: a step that fails leaves the ones before it done.
        for step in &plan.steps {
            tracing::debug!(?step, "to apply");
            if let Step::WriteService(_, value) = step
                && value.previous != NO_TABLE
            {
                self.turned.insert(value.service, now);
            }
        }
        apply::apply(&mut self.plane, &mut self.known, &plan.steps)?;
        if !plan.steps.is_empty() {
            self.actual = apply::read(&mut self.plane, &mut self.known)?;
        }
        self.quiet.retain(|number, _| plan.draining.contains(number));
        self.take(plan)?;
        let wanted = desired.services.values().flat_map(|service| service.backends.keys());
        let wanted = self.with_draining(wanted.map(SocketAddr::ip));
        self.ways.retain(|destination, _| wanted.contains(destination));
        Ok(())
    }

    /// Takes the numbers of a plan that is carried out, and forgets services that nothing carries any more.
    fn take(&mut self, plan: Plan) -> Result<(), MapAccessError> {
        let carried = self.actual.backends.values().map(|backend| backend.service);
        let carried: BTreeSet<u32> = carried.chain(plan.services.values().copied()).collect();
        self.names.retain(|number, _| carried.contains(number));
        self.names.extend(plan.services.iter().map(|(name, number)| (*number, name.clone())));
        self.turned.retain(|number, _| carried.contains(number));
        if !plan.steps.is_empty() || self.plan.services != plan.services {
            self.retired = self.plane.retired.read()?;
            for (number, _) in self.retired.extract_if(.., |number, _| !carried.contains(number)) {
                self.plane.retired.remove(number)?;
            }
        }
        self.plan = plan;
        Ok(())
    }

    /// Whether the maps could hold what is desired.
    ///
    /// # Errors
    /// A map can't be read, or is too small.
    pub(super) fn try_plan(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let actual = apply::read(&mut self.plane, &mut self.known)?;
        let mut plan = plan::check(desired, &actual)?;
        if self.plan == Plan::default() {
            // The maps may stay as an earlier daemon left them until the checks have spoken: the status tells of them.
            plan.backends.retain(|_, number| actual.backends.contains_key(number));
            self.actual = actual;
            self.take(plan)?;
        }
        Ok(())
    }

    /// A service that an earlier daemon was turning starts its time anew.
    fn circumstances(&mut self, now: Instant) -> Circumstances {
        for value in self.actual.services.values().filter(|value| value.previous != NO_TABLE) {
            self.turned.entry(value.service).or_insert(now);
        }
        let settled = |(_, at): &(&u32, &Instant)| now.duration_since(**at) >= SETTLING;
        let unused = self.quiet.iter().filter(|(_, censuses)| **censuses >= QUIET_CENSUSES);
        Circumstances {
            ways: self.ways.clone(),
            unused: unused.map(|(number, _)| *number).collect(),
            settled: self.turned.iter().filter(settled).map(|(number, _)| *number).collect(),
        }
    }

    pub(super) fn traffic(&self, backend: u32) -> Result<Traffic, MapAccessError> {
        self.plane.counters.read(backend).map(traffic)
    }

    /// Flows of a draining backend; `None` until they are known to have been counted since it left.
    pub(super) fn flows_left(&self, backend: u32) -> Option<u64> {
        counted(self.quiet.get(&backend).copied(), self.census.all.get(&backend).copied().unwrap_or(0))
    }

    pub(super) fn handle_census(&mut self, census: Census) {
        for number in &self.plan.draining {
            let censuses = self.quiet.entry(*number).or_default();
            *censuses = if census.all.contains_key(number) { 0 } else { censuses.saturating_add(1) };
        }
        self.expired += census.expired;
        self.census = census;
    }

    /// Whether a way changed. One that is lost is kept: health checks tell whether it still leads anywhere.
    pub(super) fn handle_ways(&mut self, found: Found) -> bool {
        if self.links != found.links {
            self.links = found.links;
            if let Err(error) = self.follow_stations(&self.indexes()) {
                tracing::warn!("{error}; trying again");
            }
        }
        let mut changed = false;
        self.unresolved.clear();
        for (destination, way) in found.ways {
            match way {
                Ok(way) => changed |= self.ways.insert(destination, way) != Some(way),
                Err(reason) => {
                    self.unresolved.insert(destination, reason);
                }
            }
        }
        changed
    }

    /// Addresses of all backends, those that are draining included.
    pub(super) fn destinations(&self, config: &Config) -> BTreeSet<IpAddr> {
        let wanted = config.services.iter().flat_map(|s| &s.backends).map(|backend| backend.address.ip());
        self.with_draining(wanted)
    }

    fn with_draining(&self, wanted: impl Iterator<Item = IpAddr>) -> BTreeSet<IpAddr> {
        let draining = self.plan.draining.iter().filter_map(|number| self.actual.backends.get(number));
        wanted.chain(draining.map(|backend| IpAddr::from(backend.address))).collect()
    }

    /// Attaches to every interface of the list; the first refusal leaves the rest as it was.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn attach(&mut self, interfaces: &[Interface]) -> Result<(), AttachError> {
        for interface in interfaces {
            let attached = self.attach_to(interface)?;
            self.attached.insert(interface.name.clone(), Ok(attached));
        }
        Ok(())
    }

    fn attach_to(&mut self, interface: &Interface) -> Result<Attached, AttachError> {
        let earlier = self.attached.get(&interface.name).and_then(|attached| attached.as_ref().ok());
        self.plane.attach("evenkeel", interface, earlier)
    }

    /// Lets go of interfaces that are not on the list, and lets packets leave by those that are and have the program.
    ///
    /// # Errors
    /// A map can't be read or written.
    pub(super) fn keep_only(&mut self, interfaces: &[Interface]) -> Result<(), MapAccessError> {
        self.attached.retain(|name, _| interfaces.iter().any(|interface| interface.name == *name));
        let listed = interfaces.iter().filter_map(|interface| if_nametoindex(interface.name.as_str()).ok());
        if let Err(error) = self.plane.detach_others(&listed.collect()) {
            tracing::warn!("cannot detach from an interface that is no longer listed: {error}");
        }
        let indexes = self.indexes();
        self.plane.interfaces.set(&indexes)?;
        self.follow_stations(&indexes)
    }

    fn indexes(&self) -> BTreeSet<u32> {
        self.attached.values().filter_map(|attached| Some(attached.as_ref().ok()?.ifindex)).collect()
    }

    /// Tells the program the MAC addresses of its interfaces and of those stacked on them; they may change while they are
    /// up. Until they were read those stay that an earlier daemon told it.
    fn follow_stations(&mut self, indexes: &BTreeSet<u32>) -> Result<(), MapAccessError> {
        if self.links.is_empty() {
            return Ok(());
        }
        self.plane.stations.set(&self.links.stations(indexes))
    }

    /// Attaches again where the program is no longer attached: to interfaces that were made again, and where somebody
    /// removed the link. Puts back what somebody changed in the maps of interfaces.
    pub(super) fn follow_interfaces(&mut self, interfaces: &[Interface]) {
        for interface in interfaces {
            let attached = self.attach_to(interface).map_err(|error| error.to_string());
            match (&attached, self.attached.get(&interface.name)) {
                (Ok(attached), Some(Ok(_))) if attached.adopted => {}
                (Ok(_), _) => tracing::warn!("attached to {} again", interface.name),
                (Err(error), Some(Err(known))) if known == error => {}
                (Err(error), _) => tracing::warn!("not attached to {}: {error}", interface.name),
            }
            self.attached.insert(interface.name.clone(), attached);
        }
        if let Err(error) = self.keep_only(interfaces) {
            tracing::warn!("{error}");
        }
    }

    /// Number of a backend of the configuration.
    pub(super) fn number(&self, service: &str, backend: SocketAddr) -> Option<u32> {
        self.plan.backends.get(&(service.to_owned(), backend)).copied()
    }
}

pub(super) const fn traffic(counters: BackendCounters) -> Traffic {
    Traffic { packets: counters.packets, bytes: counters.bytes, new_flows: counters.new_flows }
}

/// What the last census found, `censuses` being those in a row since the backend left that found none: a count of none
/// may have begun before.
fn counted(censuses: Option<u8>, flows: u64) -> Option<u64> {
    let censuses = censuses?;
    (flows > 0 || censuses >= QUIET_CENSUSES).then_some(flows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_left_are_told_only_once_they_were_counted_since_the_backend_left() {
        assert_eq!(counted(None, 0), None);
        assert_eq!(counted(None, 21), None);
        assert_eq!(counted(Some(0), 21), Some(21));
        assert_eq!(counted(Some(1), 0), None);
        assert_eq!(counted(Some(2), 0), Some(0));
    }
}
