//! The data plane as the daemon holds it: what is attached, what is in the maps, and what they should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lb_common::backend::Backend;
use lb_common::service::NO_TABLE;
use lb_common::station::Station;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use thiserror::Error;

use crate::config::model::{Config, Interface};
use crate::dataplane::DataPlane;
use crate::dataplane::attach::{AttachError, Attached};
use crate::dataplane::maps::MapAccessError;
use crate::dataplane::sweep::Census;
use crate::desired::{Desired, Way};
use crate::net::next_hop::Unresolved;
use crate::net::ways::Ways;
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
    /// Traffic of backends that have left, by service.
    pub(super) retired: BTreeMap<String, Traffic>,
    known: KnownTables,
    cache: TableCache,
    ways: BTreeMap<IpAddr, Way>,
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
            known: KnownTables::default(),
            cache: TableCache::default(),
            ways: BTreeMap::new(),
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
        for step in &plan.steps {
            self.retire(step)?;
        }
        apply::apply(&mut self.plane, &mut self.known, &plan.steps)?;
        for step in &plan.steps {
            tracing::debug!(?step, "applied");
            if let Step::WriteService(_, value) = step
                && value.previous != NO_TABLE
            {
                self.turned.insert(value.service, now);
            }
        }
        if !plan.steps.is_empty() {
            self.actual = apply::read(&mut self.plane, &mut self.known)?;
        }
        self.quiet.retain(|number, _| plan.draining.contains(number));
        self.plan = plan;
        Ok(())
    }

    /// Whether the maps could hold what is desired.
    ///
    /// # Errors
    /// A map can't be read, or is too small.
    pub(super) fn try_plan(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let actual = apply::read(&mut self.plane, &mut self.known)?;
        // Without ways no backend takes new flows and no table is built, which is all that would take time.
        plan::plan(desired, &actual, &Circumstances::default(), &mut TableCache::default())?;
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

    /// Keeps the counts of a backend whose number becomes free, so that its service's counters never fall.
    fn retire(&mut self, step: &Step) -> Result<(), MapAccessError> {
        let Step::WriteBackend(number, record) = step else {
            return Ok(());
        };
        if *record != Backend::default() {
            return Ok(());
        }
        let Some(service) = self.actual.backends.get(number).and_then(|gone| self.service_name(gone.service))
        else {
            return Ok(());
        };
        let traffic = self.traffic(*number)?;
        let sum = self.retired.entry(service).or_default();
        sum.packets += traffic.packets;
        sum.bytes += traffic.bytes;
        sum.new_flows += traffic.new_flows;
        Ok(())
    }

    fn service_name(&self, number: u32) -> Option<String> {
        self.plan.services.iter().find(|(_, n)| **n == number).map(|(name, _)| name.clone())
    }

    pub(super) fn traffic(&self, backend: u32) -> Result<Traffic, MapAccessError> {
        let counters = self.plane.counters.read(backend)?;
        Ok(Traffic { packets: counters.packets, bytes: counters.bytes, new_flows: counters.new_flows })
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
    pub(super) fn handle_ways(&mut self, found: Ways) -> bool {
        let mut changed = false;
        self.unresolved.clear();
        for (destination, way) in found {
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

    /// Tells the program the MAC addresses of its interfaces; they may change while they are up.
    fn follow_stations(&mut self, indexes: &BTreeSet<u32>) -> Result<(), MapAccessError> {
        let Ok(addresses) = getifaddrs() else {
            return Ok(());
        };
        let stations = addresses.filter_map(|interface| {
            let link = interface.address?;
            let link = link.as_link_addr()?;
            let ifindex = u32::try_from(link.ifindex()).ok().filter(|index| indexes.contains(index))?;
            Some(Station { ifindex, address: link.addr()?, zero: 0 })
        });
        self.plane.stations.set(&stations.collect())
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
