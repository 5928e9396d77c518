//! Loading the program over pinned maps.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{MapData, MapError};
use aya::programs::Xdp;
use aya::programs::xdp::XdpLink;
use aya::{Ebpf, EbpfLoader, Pod};
use aya_log::EbpfLogger;
use lb_common::addr::Addr;
use lb_common::backend::Backend;
use lb_common::extent;
use lb_common::service::{self, Members, QuicKey, Ranges, Service};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Sizes;
use super::flow_table::FlowTable;
use super::flow_table::hops::Hops;
use super::flow_table::load::Loads;
use super::maps::{
    self, Counters, Entries, Interfaces, Listeners, MapAccessError, MapOpenError, Reasons, Records, Retired,
    Seed, Sources, Stations, Tables, names, seed,
};
use super::object;
use super::probe::{self, TooOld};
use super::programs::Programs;
use super::sweep::Sweeper;

/// Layout of the pinned maps. A daemon adopts maps of its own layout only.
const LAYOUT: &str = "v3";
/// Layouts of earlier releases, whose flows are not taken over.
const EARLIER: [&str; 2] = ["v1", "v2"];

#[derive(Debug, Error)]
pub enum LoadError {
    #[error(transparent)]
    TooOld(#[from] TooOld),
    #[error("cannot make {}: {source}; is a bpf file system mounted? mount -t bpf bpf /sys/fs/bpf", path.display())]
    PinDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "cannot load the XDP programs: {0}; Evenkeel needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Object(#[source] aya::EbpfError),
    #[error("the kernel refuses the program `{name}`: {source}")]
    Program {
        name: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error(transparent)]
    Map(#[from] MapOpenError),
    #[error(transparent)]
    Access(#[from] MapAccessError),
    #[error("cannot make a secret for the flow table: {0}")]
    Random(#[source] io::Error),
    #[error(
        "the pinned map {} can't be read: {source}; remove it to start without the flows it has", path.display()
    )]
    Pinned {
        path: PathBuf,
        #[source]
        source: MapError,
    },
}

/// The loaded program and its maps.
pub struct DataPlane {
    /// Holds the programs; dropping it unloads what is not attached.
    pub(super) ebpf: Ebpf,
    /// Where links are pinned; `None` for a private copy that nothing outlives.
    pub(super) links: Option<PathBuf>,
    /// Links that last as long as this; dropped before what their program goes on in.
    pub(super) held: Vec<XdpLink>,
    pub(super) programs: Programs,
    /// Interfaces that this process attached the program to.
    pub(super) attached: BTreeSet<u32>,
    /// Of the flow tables, as they are.
    pub sizes: Sizes,
    /// Secret of the flow tables' hash.
    pub seed: u64,
    pub listeners: Listeners,
    pub ranges: Records<Ranges>,
    pub services: Records<Service>,
    pub backends: Records<Backend>,
    pub tables: Tables,
    pub members: Records<Members>,
    pub pools: Records<service::Sources>,
    pub sources: Sources,
    pub quic: Entries<QuicKey, u32>,
    /// Service addresses that answer pings.
    pub addresses: Entries<Addr, u32>,
    pub loads: Loads,
    /// The flow tables; `None` once they were handed to the thread that sweeps them.
    pub sweeper: Option<Sweeper>,
    pub counters: Counters,
    pub retired: Retired,
    pub reasons: Reasons,
    pub interfaces: Interfaces,
    pub stations: Stations,
}

impl DataPlane {
    /// Loads the programs over the maps pinned under `directory`, on a bpf file system; makes what is not there, flow
    /// tables of the sizes given. Those that are there keep their size, and their flows.
    ///
    /// # Errors
    /// What the kernel refused, and what it needs.
    pub fn load(directory: &Path, wanted: Sizes) -> Result<Self, LoadError> {
        probe::check()?;
        let maps = directory.join(LAYOUT);
        let links = directory.join("links");
        for path in [&maps, &links] {
            fs::create_dir_all(path)
                .map_err(|source| LoadError::PinDirectory { path: path.clone(), source })?;
        }
        tell_of_earlier(directory);
        let pinned = Pinned::find(&maps)?;
        let sizes = pinned.sizes(wanted, &maps);
        let seed = Seed::open(&maps.join(names::SEED))?.get()?;
        let mut loader = EbpfLoader::new();
        for name in names::PINNED {
            loader.map_pin_path(name, maps.join(name));
        }
        let ebpf = load(loader, object::EVENKEEL, sizes, &seed)?;
        let retired = Retired::open(Some(&maps.join(names::RETIRED)))?;
        let plane = Self::open(ebpf, Parts { retired, links: Some(links), sizes, seed })?;
        if let (false, Some(sweeper)) = (pinned.extents, &plane.sweeper) {
            if pinned.sets4.is_some() {
                sweeper.ipv4.lose_extent();
            }
            if pinned.sets6.is_some() {
                sweeper.ipv6.lose_extent();
            }
        }
        Ok(plane)
    }

    /// A private copy with maps of its own, for tests and measurements; `half_open` is a capacity.
    ///
    /// # Errors
    /// What the kernel refused, and what it needs.
    pub fn load_private(object: &[u8], sizes: Sizes, half_open: u32) -> Result<Self, LoadError> {
        let seed = seed::random().map_err(LoadError::Random)?;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(names::HALF_OPEN, half_open);
        let ebpf = load(loader, object, sizes, &seed)?;
        Self::open(ebpf, Parts { retired: Retired::open(None)?, links: None, sizes, seed })
    }

    fn open(mut ebpf: Ebpf, parts: Parts) -> Result<Self, LoadError> {
        let Parts { retired, links, sizes, seed } = parts;
        let extents = maps::descriptor(&ebpf, names::EXTENTS)?;
        let sweeper = Sweeper::new(
            maps::map(&ebpf, names::FLOWS4, |fd| FlowTable::map(fd, extents.as_fd(), sizes.sets4, seed))?,
            maps::map(&ebpf, names::FLOWS6, |fd| FlowTable::map(fd, extents.as_fd(), sizes.sets6, seed))?,
            maps::map(&ebpf, names::HOPS, Hops::map)?,
        );
        let mut plane = Self {
            loads: maps::map(&ebpf, names::LOAD, Loads::map)?,
            sweeper: Some(sweeper),
            sizes,
            seed,
            listeners: Listeners::open(&mut ebpf)?,
            ranges: Records::open(&mut ebpf, names::RANGES)?,
            services: Records::open(&mut ebpf, names::SERVICES)?,
            backends: Records::open(&mut ebpf, names::BACKENDS)?,
            tables: Tables::open(&mut ebpf)?,
            members: Records::open(&mut ebpf, names::MEMBERS)?,
            pools: Records::open(&mut ebpf, names::POOLS)?,
            sources: Sources::open(&mut ebpf)?,
            quic: Entries::open(&mut ebpf, names::QUIC)?,
            addresses: Entries::open(&mut ebpf, names::ADDRESSES)?,
            counters: Counters::open(&mut ebpf)?,
            retired,
            reasons: Reasons::open(&mut ebpf)?,
            interfaces: Interfaces::open(&mut ebpf)?,
            stations: Stations::open(&mut ebpf)?,
            programs: Programs::open(&mut ebpf)?,
            ebpf,
            links,
            held: Vec::new(),
            attached: BTreeSet::new(),
        };
        plane.listeners.adopt()?;
        plane.program_named("evenkeel")?;
        Ok(plane)
    }

    /// An array that is no part of this: the benchmark's object has one more.
    ///
    /// # Errors
    /// The object has no array of that name.
    pub fn records<T>(&mut self, name: &'static str) -> Result<Records<T>, MapOpenError>
    where
        T: Pod + FromBytes + IntoBytes + Immutable,
    {
        Records::open(&mut self.ebpf, name)
    }

    /// Hands what the programs log to this process's log, once a second: they only log what should never happen. Call
    /// it inside a tokio runtime.
    pub fn log(&mut self) {
        match EbpfLogger::init(&mut self.ebpf) {
            Ok(mut logger) => drop(tokio::spawn(async move {
                loop {
                    logger.flush();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            })),
            Err(error) => tracing::warn!("what the XDP program logs is lost: {error}"),
        }
    }

    /// A program of the object by its name, loaded if it was not yet.
    ///
    /// # Errors
    /// What the verifier said.
    ///
    /// # Panics
    /// If the object has no XDP program of that name: names are known when the object is compiled.
    pub fn program_named(&mut self, name: &'static str) -> Result<&mut Xdp, LoadError> {
        program(&mut self.ebpf, name)
    }
}

/// See [`DataPlane::program_named`].
pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, LoadError> {
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .expect("the object is compiled with this program in it");
    match program.load() {
        Ok(()) | Err(aya::programs::ProgramError::AlreadyLoaded) => Ok(program),
        Err(source) => Err(LoadError::Program { name, source: Box::new(source) }),
    }
}

/// What a data plane is made of beside the object.
struct Parts {
    retired: Retired,
    links: Option<PathBuf>,
    sizes: Sizes,
    seed: u64,
}

/// Loads the object with flow tables of these sizes. The program knows size and secret as constants.
fn load<'a>(
    mut loader: EbpfLoader<'a>,
    object: &[u8],
    sizes: Sizes,
    seed: &'a u64,
) -> Result<Ebpf, LoadError> {
    loader.map_max_entries(names::FLOWS4, sizes.sets4).map_max_entries(names::FLOWS6, sizes.sets6);
    let (levels4, levels6) = (extent::levels(sizes.sets4), extent::levels(sizes.sets6));
    let (base4, base6) = (sizes.sets4 >> levels4, sizes.sets6 >> levels6);
    let mut loader: EbpfLoader<'_> = loader;
    loader
        .override_global("FLOW_SEED", seed, true)
        .override_global("BASE4", &base4, true)
        .override_global("BASE6", &base6, true)
        .override_global("LEVELS4", &levels4, true)
        .override_global("LEVELS6", &levels6, true);
    loader.load(object).map_err(LoadError::Object)
}

fn tell_of_earlier(directory: &Path) {
    for layout in EARLIER.map(|layout| directory.join(layout)).iter().filter(|layout| layout.is_dir()) {
        tracing::warn!(
            "connections of an earlier release, in {}, are not taken over; remove the folder to have its memory back",
            layout.display()
        );
    }
}

/// Sets of the flow tables that an earlier daemon left, and whether it left how much of them is in use.
#[derive(Debug, Clone, Copy)]
struct Pinned {
    sets4: Option<u32>,
    sets6: Option<u32>,
    extents: bool,
}

impl Pinned {
    fn find(maps: &Path) -> Result<Self, LoadError> {
        let find = |name| {
            let path = maps.join(name);
            match MapData::from_pin(&path).and_then(|map| map.info().map(|info| info.max_entries())) {
                Ok(sets) => Ok(Some(sets)),
                Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
                    Ok(None)
                }
                Err(source) => Err(LoadError::Pinned { path, source }),
            }
        };
        let extents = find(names::EXTENTS)?.is_some();
        Ok(Self { sets4: find(names::FLOWS4)?, sets6: find(names::FLOWS6)?, extents })
    }

    fn sizes(self, wanted: Sizes, maps: &Path) -> Sizes {
        let sizes =
            Sizes { sets4: self.sets4.unwrap_or(wanted.sets4), sets6: self.sets6.unwrap_or(wanted.sets6) };
        if sizes != wanted {
            tracing::warn!(
                "the flow tables keep the size they were made with, and their flows: `flows` takes effect after a stop of \
                 the daemon, the removal of {}, and a start, which breaks connections",
                maps.display()
            );
        }
        sizes
    }
}
