//! One typed handle a map.

mod backends;
mod counters;
mod decap;
mod flows;
mod interfaces;
mod reasons;
mod retired;
mod services;
mod stations;
mod tables;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError};
use aya::pin::PinError;
use thiserror::Error;

pub use backends::Backends;
pub use counters::Counters;
pub use decap::Decap;
pub use flows::Flows;
pub use interfaces::Interfaces;
pub use reasons::Reasons;
pub use retired::Retired;
pub use services::Services;
pub use stations::Stations;
pub use tables::Tables;

/// Names of the maps in the object.
pub(super) mod names {
    pub(crate) const SERVICES: &str = "ek_services";
    pub(crate) const BACKENDS: &str = "ek_backends";
    pub(crate) const MAGLEV: &str = "ek_maglev";
    pub(crate) const FLOWS: &str = "ek_flows";
    pub(crate) const HALF_OPEN: &str = "ek_half_open";
    pub(crate) const COUNTERS: &str = "ek_counters";
    pub(crate) const REASONS: &str = "ek_reasons";
    pub(crate) const INTERFACES: &str = "ek_interfaces";
    pub(crate) const STATIONS: &str = "ek_stations";
    pub(crate) const DECAP: &str = "ek_decap";
    /// Not in the object: user space alone makes and uses it.
    pub(crate) const RETIRED: &str = "ek_retired";

    /// Maps that outlive the daemon: a restart goes on with the flows and counters of its predecessor.
    pub(crate) const PINNED: [&str; 9] =
        [SERVICES, BACKENDS, MAGLEV, FLOWS, HALF_OPEN, COUNTERS, REASONS, INTERFACES, STATIONS];
}

/// The program and this binary do not agree about a map.
#[derive(Debug, Error)]
pub enum MapOpenError {
    #[error("the XDP object has no map `{0}`")]
    Missing(&'static str),
    #[error(
        "map `{name}` is not what this version expects: {source}; remove the pinned maps and start again"
    )]
    Layout {
        name: &'static str,
        #[source]
        source: MapError,
    },
    #[error("cannot pin map `{name}`: {source}")]
    Pin {
        name: &'static str,
        #[source]
        source: PinError,
    },
    #[error("cannot keep map `{name}` open: {source}")]
    Descriptor {
        name: &'static str,
        #[source]
        source: io::Error,
    },
}

/// A map could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} map `{name}`: {source}")]
pub struct MapAccessError {
    name: &'static str,
    action: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, MapOpenError> {
    let map = ebpf.take_map(name).ok_or(MapOpenError::Missing(name))?;
    T::try_from(map).map_err(|source| MapOpenError::Layout { name, source })
}

/// A descriptor of its own for batched access, before [`take`] wraps the map.
fn descriptor(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, MapOpenError> {
    let map = ebpf.map(name).ok_or(MapOpenError::Missing(name))?;
    let (Map::Array(data) | Map::ArrayOfMaps(data) | Map::HashMap(data)) = map else {
        return Err(MapOpenError::Missing(name));
    };
    owned(data).map_err(|source| MapOpenError::Descriptor { name, source })
}

fn owned(data: &MapData) -> io::Result<OwnedFd> {
    data.fd().as_fd().try_clone_to_owned()
}

/// Names the map and what was being done when an access fails.
pub(super) fn access<T, E>(
    result: Result<T, E>,
    name: &'static str,
    action: &'static str,
) -> Result<T, MapAccessError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    result.map_err(|source| MapAccessError { name, action, source: Box::new(source) })
}

/// As [`access`] for a removal, where what is gone already is removed.
fn removed(result: Result<(), MapError>, name: &'static str) -> Result<(), MapAccessError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => access(other, name, "remove from"),
    }
}
