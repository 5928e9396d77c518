//! Where the program is attached, and what it knows of its interfaces.

use std::collections::BTreeSet;

use nix::net::if_::if_nametoindex;

use super::Forwarding;
use crate::config::model::{Instance, Interface};
use crate::dataplane::attach::{AttachError, Attached};
use crate::dataplane::maps::MapAccessError;

impl Forwarding {
    /// Attaches to every interface of the list; the first refusal leaves the rest as it was.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(in crate::daemon) fn attach(&mut self, interfaces: &[Interface]) -> Result<(), AttachError> {
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
    pub(in crate::daemon) fn keep_only(&mut self, interfaces: &[Interface]) -> Result<(), MapAccessError> {
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
        self.plane.stations.set(&self.links.stations(indexes, self.masters.stations()))
    }

    /// An instance became master, or no longer is. What is told when its interfaces are up would be late: the kernel, which
    /// has the address of a service by then and not its port, would refuse connections.
    pub(in crate::daemon) fn follow_master(&mut self, instance: &Instance, is_master: bool) {
        if self.masters.follow(instance, is_master) {
            self.refresh_stations();
        }
    }

    /// All instances, and whether they are master: some may be so of whom [`Self::follow_master`] was not told.
    pub(in crate::daemon) fn look_at_masters<'a>(
        &mut self,
        instances: impl Iterator<Item = (&'a Instance, bool)>,
    ) {
        if self.masters.look(instances) {
            self.refresh_stations();
        }
    }

    /// The links are others than before.
    pub(super) fn refresh_stations(&mut self) {
        if let Err(error) = self.follow_stations(&self.indexes()) {
            tracing::warn!("{error}; trying again");
        }
    }

    /// Attaches again where the program is no longer attached: to interfaces that were made again, and where somebody
    /// removed the link. Puts back what somebody changed in the maps of interfaces.
    pub(in crate::daemon) fn follow_interfaces(&mut self, interfaces: &[Interface]) {
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
}
