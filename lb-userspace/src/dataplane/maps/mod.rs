//! One typed handle a map.

mod counters;
mod entries;
mod interfaces;
mod listeners;
mod near;
mod reasons;
mod records;
mod retired;
pub(super) mod seed;
mod sources;
mod stations;
mod tables;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError};
use aya::pin::PinError;
use thiserror::Error;

pub use counters::Counters;
pub use entries::Entries;
pub use interfaces::Interfaces;
pub use listeners::Listeners;
pub use reasons::Reasons;
pub use records::Records;
pub use retired::Retired;
pub use seed::Seed;
pub use sources::Sources;
pub use stations::Stations;
pub use tables::Tables;

/// Names of the maps in the object.
pub(super) mod names {
    pub(crate) const LISTENERS4: &str = "ek_listeners4";
    pub(crate) const LISTENERS6: &str = "ek_listeners6";
    pub(crate) const NEAR: &str = "ek_near";
    pub(crate) const RANGES: &str = "ek_ranges";
    pub(crate) const SERVICES: &str = "ek_services";
    pub(crate) const BACKENDS: &str = "ek_backends";
    pub(crate) const MAGLEV: &str = "ek_maglev";
    pub(crate) const MEMBERS: &str = "ek_members";
    pub(crate) const POOLS: &str = "ek_pools";
    pub(crate) const SOURCES: &str = "ek_sources";
    pub(crate) const QUIC: &str = "ek_quic";
    pub(crate) const ADDRESSES: &str = "ek_addresses";
    pub(crate) const FLOWS4: &str = "ek_flows4";
    pub(crate) const FLOWS6: &str = "ek_flows6";
    /// How much of these is in use.
    pub(crate) const EXTENTS: &str = "ek_extents";
    pub(crate) const HOPS: &str = "ek_hops";
    pub(crate) const LOAD: &str = "ek_load";
    pub(crate) const HALF_OPEN: &str = "ek_half_open";
    pub(crate) const COUNTERS: &str = "ek_counters";
    pub(crate) const REASONS: &str = "ek_reasons";
    pub(crate) const PROGRAMS: &str = "ek_programs";
    pub(crate) const INTERFACES: &str = "ek_interfaces";
    pub(crate) const STATIONS: &str = "ek_stations";
    pub(crate) const OWN: &str = "ek_own";
    pub(crate) const DECAP: &str = "ek_decap";
    pub(crate) const DECAP_DONE: &str = "ek_decap_done";
    pub(crate) const REFUSED: &str = "ek_refused";
    pub(crate) const REFUSALS: &str = "ek_refusals";
    /// Not in the object, as the one after: user space alone makes and uses them.
    pub(crate) const RETIRED: &str = "ek_retired";
    pub(crate) const SEED: &str = "ek_seed";

    /// Maps of the object that outlive the daemon: a restart goes on with the flows and counters of its predecessor.
    pub(crate) const PINNED: [&str; 29] = [
        LISTENERS4,
        LISTENERS6,
        NEAR,
        RANGES,
        SERVICES,
        BACKENDS,
        MAGLEV,
        MEMBERS,
        POOLS,
        SOURCES,
        QUIC,
        ADDRESSES,
        FLOWS4,
        FLOWS6,
        EXTENTS,
        HOPS,
        LOAD,
        HALF_OPEN,
        COUNTERS,
        REASONS,
        INTERFACES,
        STATIONS,
        OWN,
        "ek_seen",
        "ek_turns",
        "ek_rates",
        "ek_clients",
        "ek_persistent",
        "ek_fragments",
    ];
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
    #[error(
        "cannot pin map `{name}`, for which --bpf-dir must be on a bpf file system (mount -t bpf bpf /sys/fs/bpf): {source}"
    )]
    Pin {
        name: &'static str,
        #[source]
        source: PinError,
    },
    #[error("cannot keep map `{name}` open, or in memory: {source}")]
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

pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, MapOpenError> {
    let map = ebpf.take_map(name).ok_or(MapOpenError::Missing(name))?;
    T::try_from(map).map_err(|source| MapOpenError::Layout { name, source })
}

/// A descriptor of its own for batched access, before [`take`] wraps the map.
pub(super) fn descriptor(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, MapOpenError> {
    let map = ebpf.map(name).ok_or(MapOpenError::Missing(name))?;
    let (Map::Array(data) | Map::ArrayOfMaps(data) | Map::HashMap(data) | Map::LpmTrie(data)) = map else {
        return Err(MapOpenError::Missing(name));
    };
    owned(data).map_err(|source| MapOpenError::Descriptor { name, source })
}

/// What `open` makes of a map's descriptor, for a map that is not wrapped.
pub(super) fn map<T>(
    ebpf: &Ebpf,
    name: &'static str,
    open: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> Result<T, MapOpenError> {
    let fd = descriptor(ebpf, name)?;
    open(fd.as_fd()).map_err(|source| MapOpenError::Descriptor { name, source })
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
