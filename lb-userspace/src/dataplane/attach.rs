//! Attaching the program to interfaces by pinned links, so that packets flow while no daemon runs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode as AyaMode};
use aya::programs::{ProgramError, Xdp};
use nix::net::if_::if_nametoindex;
use thiserror::Error;

use super::{DataPlane, LoadError};
use crate::config::model::{Interface, XdpMode};

/// How the program runs on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub ifindex: u32,
    pub native: bool,
    /// Why it is not native although it might be.
    pub note: Option<String>,
}

#[derive(Debug, Error)]
pub enum AttachError {
    #[error("there is no interface `{0}`; `ip link` lists them")]
    NoInterface(String),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot attach to {interface} in {mode} mode: {source}{hint}")]
    Attach {
        interface: String,
        mode: &'static str,
        #[source]
        source: Box<ProgramError>,
        hint: &'static str,
    },
    #[error("cannot keep the link of {interface} at {}: {source}", path.display())]
    Pin {
        interface: String,
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DataPlane {
    /// Attaches a program, or puts it in the place of an earlier daemon's in one step.
    ///
    /// # Errors
    /// The interface is missing, or the kernel refuses the mode.
    pub fn attach(&mut self, program: &'static str, interface: &Interface) -> Result<Attached, AttachError> {
        let name = interface.name.as_str();
        let ifindex = if_nametoindex(name).map_err(|_| AttachError::NoInterface(name.to_owned()))?;
        let links = self.links.clone();
        let program = self.program_named(program)?;
        if let Some(attached) =
            links.as_deref().and_then(|links| adopt(program, links, ifindex, interface.mode))
        {
            return Ok(attached);
        }
        let mut note = None;
        let (link, native) = match interface.mode {
            XdpMode::Native => (attach(program, name, ifindex, true)?, true),
            XdpMode::Generic => (attach(program, name, ifindex, false)?, false),
            XdpMode::Auto => match attach(program, name, ifindex, true) {
                Ok(link) => (link, true),
                Err(error) => {
                    note = Some(format!("generic, slower: {error}"));
                    (attach(program, name, ifindex, false)?, false)
                }
            },
        };
        match links {
            Some(links) => {
                let path = link_path(&links, ifindex, native);
                pin(link, &path).map_err(|source| AttachError::Pin {
                    interface: name.to_owned(),
                    path,
                    source,
                })?;
            }
            None => self.held.push(link),
        }
        Ok(Attached { ifindex, native, note })
    }

    /// Detaches from every interface that an earlier configuration listed and this one does not.
    ///
    /// # Errors
    /// A pinned link could not be removed.
    pub fn detach_others(&mut self, keep: &BTreeSet<u32>) -> io::Result<()> {
        let Some(links) = self.links.as_deref() else {
            return Ok(());
        };
        for entry in fs::read_dir(links)? {
            let entry = entry?;
            let name = entry.file_name();
            let ifindex = name.to_str().and_then(|name| name.split('-').next()?.parse().ok());
            if !ifindex.is_some_and(|ifindex| keep.contains(&ifindex)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A link tells neither its interface nor its mode to a program, so the name of its pin does. A bpf file system takes
/// no dots in names (`bpf_lookup` in kernel/bpf/inode.c), and interfaces have some: hence the index.
fn link_path(links: &Path, ifindex: u32, native: bool) -> PathBuf {
    links.join(format!("{ifindex}-{}", if native { "native" } else { "generic" }))
}

/// Updates a pinned link in a mode that will do; removes one that will not.
fn adopt(program: &mut Xdp, links: &Path, ifindex: u32, mode: XdpMode) -> Option<Attached> {
    for native in [true, false] {
        let path = link_path(links, ifindex, native);
        let Ok(pinned) = PinnedLink::from_pin(&path) else {
            continue;
        };
        let wanted = match mode {
            XdpMode::Auto => true,
            XdpMode::Native => native,
            XdpMode::Generic => !native,
        };
        if wanted && replace(program, pinned.into()).is_ok() {
            return Some(Attached { ifindex, native, note: None });
        }
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!("cannot remove the stale link {}: {error}", path.display());
        }
    }
    None
}

fn replace(program: &mut Xdp, link: FdLink) -> Result<(), Box<dyn std::error::Error>> {
    let id = program.attach_to_link(XdpLink::try_from(link)?)?;
    // The pin keeps the link; this descriptor is not needed.
    Ok(program.take_link(id).map(drop)?)
}

fn attach(program: &mut Xdp, name: &str, ifindex: u32, native: bool) -> Result<XdpLink, AttachError> {
    let (mode, word) = if native { (AyaMode::Driver, "native") } else { (AyaMode::Skb, "generic") };
    let refused = |source| AttachError::Attach {
        interface: name.to_owned(),
        mode: word,
        hint: hint(&source),
        source: Box::new(source),
    };
    let id = program.attach_to_if_index(ifindex, mode).map_err(refused)?;
    program.take_link(id).map_err(refused)
}

/// What an operator can do about a refusal.
fn hint(error: &ProgramError) -> &'static str {
    let ProgramError::SyscallError(error) = error else {
        return "";
    };
    match error.io_error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => "; another XDP program is there, see `ip link` and `bpftool net`",
        Some(libc::EOPNOTSUPP) => "; the driver has no native XDP",
        Some(libc::EPERM) => "; it needs root or CAP_NET_ADMIN",
        _ => "",
    }
}

fn pin(link: XdpLink, path: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(FdLink::try_from(link)?.pin(path).map(drop)?)
}
