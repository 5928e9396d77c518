//! Hosts as network namespaces, joined by veth pairs and bridges, with real servers and clients on them.
//!
//! ```text
//! TestBed ─┬─ Segment (a bridge in a namespace of its own)
//!          ├─ Host ── interfaces on segments, sysctls, processes
//!          └─ folder under /run with configurations, sockets, logs
//! ```
//!
//! Everything of a bed carries its name, so that [`cleanup`] finds it without knowing what was made.

use std::fs::{self, File, OpenOptions};
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::interrupt;

pub mod capture;
pub mod cleanup;
pub mod clients;
pub mod data_centre;
pub mod dual_stack;
pub mod host;
pub mod node;
pub mod process;
pub mod segment;
pub mod servers;
pub mod stub;
pub mod wait;

pub use capture::Capture;
pub use host::Host;
pub use node::Node;
pub use process::Process;
pub use segment::Segment;
pub use wait::wait_for;

/// One small network. Dropping it removes everything in it.
#[derive(Debug)]
pub struct TestBed {
    name: String,
    folder: PathBuf,
    stub: stub::Stub,
    /// Held as long as the bed is in use; one whose lock is free is stale.
    _lock: Flock<File>,
}

impl TestBed {
    /// Sets up a bed called `name`, or `name2` and so on while that one is in use, and removes stale ones.
    ///
    /// # Errors
    /// It takes root, a mounted /sys/fs/bpf and the compiled XDP programs.
    pub fn new(name: &str) -> Result<Self> {
        interrupt::clean_up_on_signals()?;
        cleanup::sweep_stale();
        let (name, lock) = claim(name)?;
        let folder = cleanup::folder(&name);
        let stub = stub::Stub::load()?;
        Ok(Self { name, folder, stub, _lock: lock })
    }

    /// A bed for one test, with a name that no other process or test has.
    ///
    /// # Errors
    /// As [`TestBed::new`].
    pub fn for_test() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::new(&format!("t{}x{count}x", std::process::id()))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For files that belong to the bed.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a host with nothing but loopback.
    ///
    /// # Errors
    /// The namespace cannot be made.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::new(&self.name, &self.folder, name)
    }

    /// Adds a shared Ethernet segment.
    ///
    /// # Errors
    /// The namespace or the bridge cannot be made.
    pub fn segment(&self, name: &str) -> Result<Segment> {
        Segment::new(self.host(name)?, self.stub.clone())
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        // After a signal the clean-up is another thread's, which ends the process; this waits for that.
        let _one_at_a_time = interrupt::creating();
        cleanup::sweep(&self.name);
        cleanup::forget(&self.name);
    }
}

fn claim(wanted: &str) -> Result<(String, Flock<File>)> {
    let names = iter::once(wanted.to_owned()).chain((2..1000).map(|number| format!("{wanted}{number}")));
    for name in names {
        let path = cleanup::lock_file(&name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        // A clean-up may have removed the file between opening and locking it.
        let in_place =
            fs::metadata(&path).is_ok_and(|there| lock.metadata().is_ok_and(|own| own.ino() == there.ino()));
        if in_place {
            cleanup::remember(&name);
            let folder = cleanup::folder(&name);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            return Ok((name, lock));
        }
    }
    bail!("a thousand test beds called {wanted} are in use")
}
