//! The programs that the attached one goes on in.
//!
//! The kernel empties an array of programs as soon as no process has it open and no file names it (`bpf_map_put_uref` in
//! kernel/bpf/syscall.c), whoever uses it. So beside the link of every interface lies a pin of the array that goes with the
//! program on it; another daemon's program comes with an array of its own.

use std::fs;
use std::io;
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Map, ProgramArray};
use aya::pin::PinError;
use lb_common::programs::{IPV6, REST};

use super::flow_table::grace;
use super::load::{LoadError, program};
use super::maps::names::PROGRAMS as NAME;
use super::maps::{MapOpenError, access};

const PROGRAMS: [(u32, &str); 2] = [(REST, "evenkeel_rest"), (IPV6, "evenkeel_ipv6")];

const KIND: &str = "programs";

/// The array, filled.
pub(super) struct Programs {
    map: Map,
    id: u32,
}

impl Programs {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let layout = |source| MapOpenError::Layout { name: NAME, source };
        let mut map = ebpf.take_map(NAME).ok_or(MapOpenError::Missing(NAME))?;
        let Map::ProgramArray(data) = &map else {
            return Err(MapOpenError::Missing(NAME).into());
        };
        let id = data.info().map_err(layout)?.id();
        let mut array = ProgramArray::try_from(&mut map).map_err(layout)?;
        for (place, name) in PROGRAMS {
            let loaded = program(ebpf, name)?;
            let loaded =
                loaded.fd().map_err(|source| LoadError::Program { name, source: Box::new(source) })?;
            access(array.set(place, loaded, 0), NAME, "write to")?;
        }
        Ok(Self { map, id })
    }

    /// Keeps the array for as long as the pin is there. Comes before its program is attached to the interface.
    pub(super) fn pin(&self, links: &Path, ifindex: u32) -> Result<(), PinError> {
        let path = links.join(self.pin_name(ifindex));
        if path.exists() { Ok(()) } else { self.map.pin(path) }
    }

    /// Lets go of the arrays of programs that were on the interface before.
    pub(super) fn release_others(&self, links: &Path, ifindex: u32) -> io::Result<()> {
        let (own, all) = (self.pin_name(ifindex), format!("{ifindex}-{KIND}-"));
        let others: Vec<_> = fs::read_dir(links)?
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .filter(|name| name.to_str().is_some_and(|name| name.starts_with(&all) && name != own))
            .collect();
        if !others.is_empty() {
            // A packet may be on its way from the one program to the next.
            grace::wait();
        }
        others.iter().try_for_each(|name| fs::remove_file(links.join(name)))
    }

    /// The number of the interface comes first, as with links: what is no longer listed goes by that.
    fn pin_name(&self, ifindex: u32) -> String {
        format!("{ifindex}-{KIND}-{}", self.id)
    }
}
