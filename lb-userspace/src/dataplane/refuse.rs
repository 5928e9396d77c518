//! The program that drops what is sent to addresses that this node holds and does not accept for, and its maps: an object of
//! its own. See lb-ebpf/src/refuse.rs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::{ProgramError, SchedClassifier};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use lb_common::addr::Addr;
use thiserror::Error;

use super::maps::{MapAccessError, MapOpenError, access, names, take};
use super::object;

/// As `tc filter` and `bpftool` show it.
pub const PROGRAM: &str = "evenkeel_refuse";

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It goes with this process, whatever ends it. Since Linux 6.6.
    Link,
    /// It stays until it is taken off, as does the qdisc `clsact` that it needs: others may use that.
    Filter,
}

impl Way {
    #[must_use]
    pub fn of_kernel() -> Self {
        let linux_6_6 = KernelVersion::new(6, 6, 0);
        let has_links = KernelVersion::current().is_ok_and(|running| running >= linux_6_6);
        if has_links { Self::Link } else { Self::Filter }
    }
}

#[derive(Debug, Error)]
pub enum RefuseError {
    #[error("cannot load the program: {0}; Evenkeel needs root, or CAP_BPF and CAP_NET_ADMIN")]
    Object(#[source] aya::EbpfError),
    #[error("the kernel refuses the program: {0}")]
    Program(#[source] Box<ProgramError>),
    #[error(transparent)]
    Map(#[from] MapOpenError),
    #[error(transparent)]
    Access(#[from] MapAccessError),
    #[error("cannot attach to {interface}: {source}")]
    Attach {
        interface: String,
        #[source]
        source: Box<ProgramError>,
    },
}

/// The loaded program; dropping this detaches it everywhere.
#[derive(Debug)]
pub struct Refuse {
    /// By number of the interface; before the program, which they are to be dropped before.
    links: BTreeMap<u32, SchedClassifierLink>,
    ebpf: Ebpf,
    addresses: HashMap<MapData, Addr, u32>,
    refused: Arc<Refused>,
    way: Way,
}

/// Packets that were dropped.
pub struct Refused(PerCpuArray<MapData, u64>);

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").finish_non_exhaustive()
    }
}

impl Refused {
    /// Since the program was loaded, of one counter, below [`lb_common::limits::REFUSAL_COUNTERS`].
    ///
    /// # Errors
    /// There is no such counter.
    pub fn packets(&self, counter: u32) -> Result<u64, MapAccessError> {
        let values = access(self.0.get(&counter, 0), names::REFUSALS, "read")?;
        Ok(values.iter().sum())
    }
}

impl Refuse {
    /// # Errors
    /// What the kernel refused, and what it needs.
    pub fn load(way: Way) -> Result<Self, RefuseError> {
        // The object has nothing to relocate, and the kernel's own types take long to read.
        let mut ebpf = EbpfLoader::new().btf(None).load(object::REFUSE).map_err(RefuseError::Object)?;
        let addresses = take(&mut ebpf, names::REFUSED)?;
        let refused = Arc::new(Refused(take(&mut ebpf, names::REFUSALS)?));
        let mut refuse = Self { links: BTreeMap::new(), ebpf, addresses, refused, way };
        refuse.program().load().map_err(|source| RefuseError::Program(Box::new(source)))?;
        Ok(refuse)
    }

    #[must_use]
    pub fn refused(&self) -> Arc<Refused> {
        Arc::clone(&self.refused)
    }

    /// Has packets to the address dropped where the program is attached, and counted by this counter.
    ///
    /// # Errors
    /// [`lb_common::limits::REFUSED`] are there already.
    pub fn add(&mut self, address: IpAddr, counter: u32) -> Result<(), MapAccessError> {
        access(self.addresses.insert(Addr::from(address), counter, 0), names::REFUSED, "write to")
    }

    /// # Errors
    /// It is not there.
    pub fn remove(&mut self, address: IpAddr) -> Result<(), MapAccessError> {
        access(self.addresses.remove(&Addr::from(address)), names::REFUSED, "write to")
    }

    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.links.keys().copied()
    }

    /// Attaches before other programs, one of which might accept a packet for all; for as long as this lives. What an
    /// earlier process left there is taken off.
    ///
    /// # Errors
    /// The interface is missing, or the kernel refuses.
    pub fn attach(&mut self, index: u32, interface: &str) -> Result<(), RefuseError> {
        let attached = match self.way {
            Way::Link => self.attach_as(interface, || TcAttachOptions::TcxOrder(LinkOrder::first())),
            Way::Filter => {
                take_off(interface);
                let options = || TcAttachOptions::Netlink(NlOptions::default());
                // Refused where there is no `clsact`.
                self.attach_as(interface, options).or_else(|_| {
                    let _ = tc::qdisc_add_clsact(interface);
                    self.attach_as(interface, options)
                })
            }
        };
        let refused =
            |source| RefuseError::Attach { interface: interface.to_owned(), source: Box::new(source) };
        self.links.insert(index, attached.map_err(refused)?);
        Ok(())
    }

    pub fn detach(&mut self, index: u32) {
        self.links.remove(&index);
    }

    fn attach_as(
        &mut self,
        interface: &str,
        options: impl Fn() -> TcAttachOptions,
    ) -> Result<SchedClassifierLink, ProgramError> {
        let program = self.program();
        let id = program.attach_with_options(interface, TcAttachType::Ingress, options())?;
        program.take_link(id)
    }

    fn program(&mut self) -> &mut SchedClassifier {
        let program = self.ebpf.program_mut(PROGRAM).and_then(|program| program.try_into().ok());
        program.expect("the object is compiled with this program in it")
    }
}

/// Removes filters that an earlier process attached to the interface, if any.
pub fn take_off(interface: &str) {
    // It fails where there is none, and where an interface went away; then there is nothing to remove.
    let _ = tc::qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM);
}
