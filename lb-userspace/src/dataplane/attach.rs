//! Attaching the program to interfaces by pinned links, so that packets flow while no daemon runs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aya::pin::PinError;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode as AyaMode};
use aya::programs::{ProgramError, Xdp};
use nix::net::if_::if_nametoindex;
use thiserror::Error;

use super::flow_table::grace;
use super::{DataPlane, LoadError, load, programs};
use crate::config::model::{Interface, XdpMode};

/// How the program runs on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub ifindex: u32,
    pub native: bool,
    /// By a link that was there already.
    pub adopted: bool,
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
    #[error(
        "cannot pin what the XDP program on {interface} tail-calls at {}, which must be on a bpf file system (mount -t \
         bpf bpf /sys/fs/bpf): {source}",
        path.display()
    )]
    PinPrograms {
        interface: String,
        path: PathBuf,
        #[source]
        source: Box<PinError>,
    },
    #[error("cannot keep the link of {interface} at {}: {source}", path.display())]
    Pin {
        interface: String,
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl AttachError {
    fn is_of_another_program(&self) -> bool {
        matches!(self, Self::Attach { source, .. } if occupied(source))
    }
}

/// Attaches a program that is loaded for as long as the link lives.
///
/// # Errors
/// The interface is missing, or the kernel refuses the mode.
pub(super) fn attach(program: &mut Xdp, interface: &Interface) -> Result<(XdpLink, Attached), AttachError> {
    let name = interface.name.as_str();
    let ifindex = if_nametoindex(name).map_err(|_| AttachError::NoInterface(name.to_owned()))?;
    Target { program, name, ifindex, patient: false }.attach(interface.mode)
}

/// A link that was removed lets go of its interface when the kernel has freed its pin, which waits for an RCU grace
/// period (`bpf_super_ops` in kernel/bpf/inode.c, up to Linux 6.8).
const LETS_GO_WITHIN: Duration = Duration::from_millis(500);
const LOOKS_EVERY: Duration = Duration::from_millis(5);

impl DataPlane {
    /// Attaches a program, or puts it in the place of an earlier daemon's in one step; where it is attached already,
    /// nothing happens. The kernel holds native and generic on one interface only one after the other: if the wanted
    /// mode is refused, the earlier one is put back.
    ///
    /// `earlier` is what the last call said of this interface.
    ///
    /// # Errors
    /// The interface is missing, or the kernel refuses the mode.
    pub fn attach(
        &mut self,
        program: &'static str,
        interface: &Interface,
        earlier: Option<&Attached>,
    ) -> Result<Attached, AttachError> {
        let name = interface.name.as_str();
        let ifindex = if_nametoindex(name).map_err(|_| AttachError::NoInterface(name.to_owned()))?;
        let program = load::program(&mut self.ebpf, program)?;
        let mut target = Target { program, name, ifindex, patient: false };
        let Some(links) = &self.links else {
            let (link, attached) = target.attach(interface.mode)?;
            self.held.push(link);
            return Ok(attached);
        };
        let path = self.programs.path(links, ifindex);
        self.programs.pin(&path).map_err(|source| AttachError::PinPrograms {
            interface: name.to_owned(),
            path,
            source: Box::new(source),
        })?;
        let attached = target.attach_for_good(links, interface.mode, earlier)?;
        self.attached.insert(ifindex);
        Ok(attached)
    }

    /// Detaches from every interface that an earlier configuration listed and this one does not, and lets go of what the
    /// programs of earlier daemons went on in.
    ///
    /// # Errors
    /// A pin could not be removed.
    pub fn detach_others(&mut self, keep: &BTreeSet<u32>) -> io::Result<()> {
        let Some(links) = self.links.as_deref() else {
            return Ok(());
        };
        let names = fs::read_dir(links)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let (programs, attached): (Vec<_>, Vec<_>) =
            names.collect::<io::Result<Vec<_>>>()?.into_iter().partition(|name| programs::is_pin(name));
        for name in attached.iter().filter(|name| !interface(name).is_some_and(|index| keep.contains(&index)))
        {
            fs::remove_file(links.join(name))?;
        }
        let is_used = |name: &String| {
            interface(name).is_some_and(|index| {
                keep.contains(&index) && (self.programs.is_own(name) || !self.attached.contains(&index))
            })
        };
        let unused: Vec<_> = programs.into_iter().filter(|name| !is_used(name)).collect();
        if !unused.is_empty() {
            // A packet may be on its way from one program to the next.
            grace::wait();
        }
        unused.iter().try_for_each(|name| fs::remove_file(links.join(name)))
    }
}

/// The number of the interface that a pin is for.
fn interface(pin: &str) -> Option<u32> {
    pin.split('-').next()?.parse().ok()
}

/// A link tells neither its interface nor its mode to a program, so the name of its pin does. A bpf file system takes
/// no dots in names (`bpf_lookup` in kernel/bpf/inode.c), and interfaces have some: hence the index.
fn link_path(links: &Path, ifindex: u32, native: bool) -> PathBuf {
    links.join(format!("{ifindex}-{}", if native { "native" } else { "generic" }))
}

/// What is pinned for an interface.
enum Found {
    /// In a mode that will do, and now with the program.
    Wanted {
        native: bool,
    },
    /// In the other mode, and now removed.
    Unwanted {
        native: bool,
    },
    Nothing,
}

/// A program and the interface that it is for.
struct Target<'a> {
    program: &'a mut Xdp,
    name: &'a str,
    ifindex: u32,
    /// Waits for a link that was removed to let go.
    patient: bool,
}

impl Target<'_> {
    /// By a link that outlives the daemon: an earlier one's, or a new one.
    fn attach_for_good(
        &mut self,
        links: &Path,
        mode: XdpMode,
        earlier: Option<&Attached>,
    ) -> Result<Attached, AttachError> {
        // Generic that was asked for is no answer to the question what the driver can do.
        let asked = earlier.is_some_and(|earlier| !earlier.native && earlier.note.is_none());
        let displaced = match self.adopt(links, mode, !asked) {
            Found::Wanted { native } => {
                let earlier = earlier.filter(|e| e.ifindex == self.ifindex && e.native == native);
                let note = match earlier {
                    Some(earlier) => earlier.note.clone(),
                    None if native || mode == XdpMode::Generic => None,
                    None => Some("generic, slower: as an earlier start left it".to_owned()),
                };
                return Ok(Attached { ifindex: self.ifindex, native, adopted: true, note });
            }
            Found::Unwanted { native } => Some(native),
            Found::Nothing => None,
        };
        let attached = self.attach_pinned(links, mode);
        if let (Err(_), Some(native)) = (&attached, displaced) {
            let mode = if native { XdpMode::Native } else { XdpMode::Generic };
            if let Err(error) = self.attach_pinned(links, mode) {
                tracing::error!("{} is without the program: {error}", self.name);
            }
        }
        attached
    }

    /// Updates a pinned link in a mode that will do; removes one that will not. The kernel does nothing if the program
    /// is the link's already, and refuses if the link is not attached any more (`bpf_xdp_link_update` in
    /// net/core/dev.c).
    fn adopt(&mut self, links: &Path, mode: XdpMode, generic_will_do: bool) -> Found {
        let mut found = Found::Nothing;
        for native in [true, false] {
            let path = link_path(links, self.ifindex, native);
            let Ok(pinned) = PinnedLink::from_pin(&path) else {
                continue;
            };
            let wanted = match mode {
                XdpMode::Auto => native || generic_will_do,
                XdpMode::Native => native,
                XdpMode::Generic => !native,
            };
            let attached = replace(self.program, pinned.into()).is_ok();
            if attached && wanted {
                return Found::Wanted { native };
            }
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!("cannot remove the stale link {}: {error}", path.display());
            }
            self.patient = true;
            if attached {
                found = Found::Unwanted { native };
            }
        }
        found
    }

    fn attach_pinned(&mut self, links: &Path, mode: XdpMode) -> Result<Attached, AttachError> {
        let (link, attached) = self.attach(mode)?;
        let path = link_path(links, self.ifindex, attached.native);
        pin(link, &path).map_err(|source| AttachError::Pin {
            interface: self.name.to_owned(),
            path,
            source,
        })?;
        Ok(attached)
    }

    fn attach(&mut self, mode: XdpMode) -> Result<(XdpLink, Attached), AttachError> {
        let attached = |native, note| Attached { ifindex: self.ifindex, native, adopted: false, note };
        let (native, generic) = (attached(true, None), attached(false, None));
        match mode {
            XdpMode::Native => Ok((self.attach_as(true)?, native)),
            XdpMode::Generic => Ok((self.attach_as(false)?, generic)),
            XdpMode::Auto => match self.attach_as(true) {
                Ok(link) => Ok((link, native)),
                // Generic is refused too as long as the other is there; once it is gone, native may work.
                Err(error) if error.is_of_another_program() => Err(error),
                Err(error) => {
                    let note = Some(format!("generic, slower: {error}"));
                    Ok((self.attach_as(false)?, Attached { note, ..generic }))
                }
            },
        }
    }

    fn attach_as(&mut self, native: bool) -> Result<XdpLink, AttachError> {
        let (mode, word) = if native { (AyaMode::Driver, "native") } else { (AyaMode::Skb, "generic") };
        let refused = |source| AttachError::Attach {
            interface: self.name.to_owned(),
            mode: word,
            hint: hint(&source),
            source: Box::new(source),
        };
        let mut waited = Duration::ZERO;
        let id = loop {
            match self.program.attach_to_if_index(self.ifindex, mode) {
                Err(error) if self.patient && occupied(&error) && waited < LETS_GO_WITHIN => {
                    thread::sleep(LOOKS_EVERY);
                    waited += LOOKS_EVERY;
                }
                other => break other.map_err(refused)?,
            }
        };
        self.program.take_link(id).map_err(refused)
    }
}

fn replace(program: &mut Xdp, link: FdLink) -> Result<(), Box<dyn std::error::Error>> {
    let id = program.attach_to_link(XdpLink::try_from(link)?)?;
    // The pin keeps the link; this descriptor is not needed.
    Ok(program.take_link(id).map(drop)?)
}

/// Whether another link holds the interface.
fn occupied(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else {
        return false;
    };
    matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
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
