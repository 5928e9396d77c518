//! Loading the program over pinned maps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::Xdp;
use aya::programs::xdp::XdpLink;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use thiserror::Error;

use super::maps::{
    Backends, Counters, Decap, Flows, Interfaces, MapOpenError, Reasons, Retired, Services, Stations, Tables,
    names,
};
use super::object;

/// Layout of the pinned maps. A daemon adopts maps of its own layout only.
const LAYOUT: &str = "v1";

#[derive(Debug, Error)]
pub enum LoadError {
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
}

/// The loaded program and its maps.
pub struct DataPlane {
    /// Holds the programs; dropping it unloads what is not attached.
    pub(super) ebpf: Ebpf,
    /// Where links are pinned; `None` for a private copy that nothing outlives.
    pub(super) links: Option<PathBuf>,
    /// Links that last as long as this.
    pub(super) held: Vec<XdpLink>,
    pub services: Services,
    pub backends: Backends,
    pub tables: Tables,
    pub counters: Counters,
    pub retired: Retired,
    pub reasons: Reasons,
    pub interfaces: Interfaces,
    pub stations: Stations,
    pub decap: Decap,
    /// `None` once it was handed to the thread that sweeps it.
    pub flows: Option<Flows>,
}

impl DataPlane {
    /// Loads the programs over the maps pinned under `directory`, on a bpf file system; makes what is not there.
    ///
    /// # Errors
    /// What the kernel refused, and what it needs.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let maps = directory.join(LAYOUT);
        let links = directory.join("links");
        for path in [&maps, &links] {
            fs::create_dir_all(path)
                .map_err(|source| LoadError::PinDirectory { path: path.clone(), source })?;
        }
        let mut loader = EbpfLoader::new();
        for name in names::PINNED {
            loader.map_pin_path(name, maps.join(name));
        }
        let ebpf = loader.load(object::EVENKEEL).map_err(LoadError::Object)?;
        Self::open(ebpf, Retired::open(Some(&maps.join(names::RETIRED)))?, Some(links))
    }

    /// A private copy with maps of its own, for tests and measurements; `flows` and `half_open` are capacities.
    ///
    /// # Errors
    /// What the kernel refused, and what it needs.
    pub fn load_private(object: &[u8], flows: u32, half_open: u32) -> Result<Self, LoadError> {
        let ebpf = EbpfLoader::new()
            .map_max_entries(names::FLOWS, flows)
            .map_max_entries(names::HALF_OPEN, half_open)
            .load(object)
            .map_err(LoadError::Object)?;
        Self::open(ebpf, Retired::open(None)?, None)
    }

    fn open(mut ebpf: Ebpf, retired: Retired, links: Option<PathBuf>) -> Result<Self, LoadError> {
        let mut plane = Self {
            services: Services::open(&mut ebpf)?,
            backends: Backends::open(&mut ebpf)?,
            tables: Tables::open(&mut ebpf)?,
            counters: Counters::open(&mut ebpf)?,
            retired,
            reasons: Reasons::open(&mut ebpf)?,
            interfaces: Interfaces::open(&mut ebpf)?,
            stations: Stations::open(&mut ebpf)?,
            decap: Decap::open(&mut ebpf)?,
            flows: Some(Flows::open(&mut ebpf)?),
            ebpf,
            links,
            held: Vec::new(),
        };
        plane.program_named("evenkeel")?;
        Ok(plane)
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
        let program: &mut Xdp = self
            .ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .expect("the object is compiled with this program in it");
        match program.load() {
            Ok(()) | Err(aya::programs::ProgramError::AlreadyLoaded) => Ok(program),
            Err(source) => Err(LoadError::Program { name, source: Box::new(source) }),
        }
    }
}
