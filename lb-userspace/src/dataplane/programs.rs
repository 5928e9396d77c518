//! The programs that the attached one goes on in.
//!
//! The kernel empties an array of programs as soon as no process has it open and no file names it (`bpf_map_put_uref` in
//! kernel/bpf/syscall.c), whoever uses it. So beside the link of every interface lies a pin of the array that goes with the
//! program on it; another daemon's program comes with an array of its own.

use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{Map, ProgramArray};
use aya::pin::PinError;
use lb_common::programs::{IPV6, REST};

use super::load::{LoadError, program};
use super::maps::names::PROGRAMS as NAME;
use super::maps::{MapOpenError, access};

const PROGRAMS: [(u32, &str); 2] = [(REST, "evenkeel_rest"), (IPV6, "evenkeel_ipv6")];

/// Between the numbers of interface and array.
const KIND: &str = "-programs-";

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

    /// Where the array is pinned beside the link of an interface. The number of the interface comes first, as with links.
    pub(super) fn path(&self, links: &Path, ifindex: u32) -> PathBuf {
        links.join(format!("{ifindex}{KIND}{}", self.id))
    }

    /// Keeps the array for as long as the pin is there. Comes before its program is attached to the interface.
    pub(super) fn pin(&self, path: &Path) -> Result<(), PinError> {
        if path.exists() { Ok(()) } else { self.map.pin(path) }
    }

    /// Whether a pin is this array's.
    pub(super) fn is_own(&self, name: &str) -> bool {
        name.split_once(KIND).is_some_and(|(_, id)| id == self.id.to_string())
    }
}

/// Whether a pin is an array's, and not a link's.
pub(super) fn is_pin(name: &str) -> bool {
    name.contains(KIND)
}
