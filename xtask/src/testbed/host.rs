//! A host: one network namespace.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use super::cleanup;
use super::process::Process;
use super::wait::wait_for;
use crate::interrupt;
use crate::shell::capture;

const PATIENCE: Duration = Duration::from_secs(60);

/// The namespace goes with its bed, not with this.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    namespace: String,
    folder: PathBuf,
    bpf_folder: PathBuf,
}

impl Host {
    pub(super) fn new(bed: &str, bed_folder: &Path, name: &str) -> Result<Self> {
        let host = Self {
            name: name.to_owned(),
            namespace: cleanup::namespace(bed, name),
            folder: bed_folder.join(name),
            bpf_folder: cleanup::bpf_folder(bed, name),
        };
        let creating = interrupt::creating();
        fs::create_dir_all(&host.folder).with_context(|| format!("cannot make {}", host.folder.display()))?;
        capture(Command::new("ip").args(["netns", "add", &host.namespace]))?;
        drop(creating);
        host.run(["ip", "link", "set", "lo", "up"])?;
        for (key, value) in [
            // Checked by source address alone, replies that take another way would be dropped.
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            // A client address soon has no port left while thousands of connections wait in TIME_WAIT.
            ("net.ipv4.tcp_max_tw_buckets", "0"),
        ] {
            host.sysctl(key, value)?;
        }
        Ok(host)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As `ip netns` shows it.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// For configurations, sockets and logs of what runs here.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// For what is pinned here.
    #[must_use]
    pub fn bpf_folder(&self) -> &Path {
        &self.bpf_folder
    }

    /// Enters the network namespace only: `ip netns exec` would hide /sys/fs/bpf too.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let net = cleanup::namespace_file(&self.namespace);
        command.arg(format!("--net={}", net.display())).arg("--").arg(program);
        command
    }

    /// Runs a command to its end and returns what it prints.
    ///
    /// # Errors
    /// It does not exit with 0.
    pub fn run<I>(&self, words: I) -> Result<String>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut words = words.into_iter();
        let program = words.next().context("no command")?;
        capture(self.command(program).args(words)).with_context(|| format!("on {}", self.name))
    }

    /// Starts a command that goes on running; its output goes to `NAME.log` in the host's folder.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process> {
        Process::spawn(name, command, &self.folder.join(format!("{name}.log")))
            .with_context(|| format!("on {}", self.name))
    }

    /// Calls a function on a thread that is on this host.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the function fails.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter_thread()?;
                function()
            });
            thread.join().map_err(|_| anyhow!("a thread on {} panicked", self.name))?
        })
    }

    /// Moves the calling thread, for good, to this host.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn enter_thread(&self) -> Result<()> {
        let path = cleanup::namespace_file(&self.namespace);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", self.namespace))
    }

    /// Sets a kernel setting of the network, named with dots.
    ///
    /// # Errors
    /// There is none of that name, or it does not take the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| fs::write(&path, value).with_context(|| format!("cannot set {key} to {value}")))
    }

    /// Adds an address, such as `192.0.2.1/24`.
    ///
    /// # Errors
    /// It is no address, or already there.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        // Of use at once: until the kernel has looked for a duplicate, an IPv6 address can't be bound to.
        let at_once: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        let words = ["ip", "address", "add", address, "dev", interface];
        self.run(words.iter().chain(at_once)).map(drop)
    }

    /// Adds a route; `destination` may be `default`.
    ///
    /// # Errors
    /// The gateway is not on a segment of this host.
    pub fn add_route(&self, destination: &str, gateway: &str) -> Result<()> {
        self.run(["ip", "route", "add", destination, "via", gateway]).map(drop)
    }

    /// Whether any interface has this address.
    ///
    /// # Errors
    /// The addresses cannot be listed.
    pub fn has_address(&self, address: &str) -> Result<bool> {
        let list = self.run(["ip", "-oneline", "address", "show"])?;
        Ok(list.split_whitespace().any(|word| word.split('/').next() == Some(address)))
    }

    /// Waits until an interface has this address.
    ///
    /// # Errors
    /// None has it in time.
    pub fn wait_until_it_has(&self, address: &str) -> Result<()> {
        wait_for(&format!("{} to have {address}", self.name), PATIENCE, || {
            Ok(self.has_address(address)?.then_some(()))
        })
    }

    /// Waits until no interface has this address: a master that steps back keeps its own for a moment, as backup.
    ///
    /// # Errors
    /// One has it still when the time is over.
    pub fn wait_until_it_lacks(&self, address: &str) -> Result<()> {
        wait_for(&format!("{} to let go of {address}", self.name), PATIENCE, || {
            Ok((!self.has_address(address)?).then_some(()))
        })
    }

    /// Makes this host a router.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("net.ipv4.ip_forward", "1")?;
        self.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Takes packets for an address that another host answers ARP or neighbour discovery for: on loopback, and silent
    /// about it. Linux answers neighbour discovery only for the addresses of the interface that it is asked on.
    ///
    /// # Errors
    /// The address cannot be added.
    pub fn hold_virtual_address(&self, address: &str) -> Result<()> {
        self.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        self.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
        let length = if address.contains(':') { 128 } else { 32 };
        self.add_address("lo", &format!("{address}/{length}"))
    }
}
