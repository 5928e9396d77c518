//! The program that removes tunnel headers on a backend, and its maps: an object of its own.

use std::net::IpAddr;

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::Xdp;
use aya::programs::xdp::XdpLink;
use aya::{Ebpf, EbpfLoader};
use lb_common::addr::Addr;
use lb_common::decap::Outcome;

use super::attach::{self, AttachError, Attached};
use super::maps::{MapAccessError, access, names, take};
use super::packet::{self, RunError};
use super::{LoadError, object};
use crate::config::model::Interface;

const PROGRAM: &str = "decap";

/// The loaded program; dropping this detaches it everywhere.
pub struct Decap {
    ebpf: Ebpf,
    destinations: HashMap<MapData, Addr, u32>,
    outcomes: PerCpuArray<MapData, u64>,
    links: Vec<XdpLink>,
}

impl Decap {
    /// Loads the program; `gue_port` is the UDP port that it takes for GUE.
    ///
    /// # Errors
    /// What the kernel refused, and what it needs.
    pub fn load(gue_port: u16) -> Result<Self, LoadError> {
        let port = gue_port.to_be();
        let mut loader = EbpfLoader::new();
        loader.override_global("GUE_PORT", &port, true);
        let mut ebpf = loader.load(object::DECAP).map_err(LoadError::Object)?;
        let destinations = take(&mut ebpf, names::DECAP)?;
        let outcomes = take(&mut ebpf, names::DECAP_DONE)?;
        let mut decap = Self { ebpf, destinations, outcomes, links: Vec::new() };
        let loaded = decap.program().load();
        loaded.map_err(|source| LoadError::Program { name: PROGRAM, source: Box::new(source) })?;
        Ok(decap)
    }

    /// Has tunnel headers with this destination removed from now on.
    ///
    /// # Errors
    /// [`lb_common::limits::DECAP`] are there already.
    pub fn add(&mut self, destination: IpAddr) -> Result<(), MapAccessError> {
        access(self.destinations.insert(Addr::from(destination), 1, 0), names::DECAP, "write to")
    }

    /// Attaches to an interface for as long as this lives.
    ///
    /// # Errors
    /// The interface is missing, or the kernel refuses the mode.
    pub fn attach(&mut self, interface: &Interface) -> Result<Attached, AttachError> {
        let (link, attached) = attach::attach(self.program(), interface)?;
        self.links.push(link);
        Ok(attached)
    }

    /// Packets by what was done with them, since it was loaded.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn outcomes(&self) -> Result<Vec<(Outcome, u64)>, MapAccessError> {
        Outcome::ALL
            .iter()
            .map(|outcome| {
                let values = access(self.outcomes.get(&(*outcome as u32), 0), names::DECAP_DONE, "read")?;
                Ok((*outcome, values.iter().sum()))
            })
            .collect()
    }

    /// # Errors
    /// The kernel takes frames of at least 14 bytes and of less than a page.
    pub fn run(&mut self, frame: &[u8]) -> Result<packet::Outcome, RunError> {
        packet::run(self.program(), frame, 0)
    }

    /// # Panics
    /// If the object has no such program: its name is known when the object is compiled.
    pub fn program(&mut self) -> &mut Xdp {
        let program = self.ebpf.program_mut(PROGRAM).and_then(|program| program.try_into().ok());
        program.expect("the object is compiled with this program in it")
    }
}
