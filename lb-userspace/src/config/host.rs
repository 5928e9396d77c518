//! What a configuration is read against: the host it is for.

use std::collections::BTreeSet;
use std::{fs, io};

/// Facts about the host that a configuration refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The default for `node`.
    pub hostname: String,
    /// Names of the network interfaces that exist.
    pub interfaces: BTreeSet<String>,
}

impl Host {
    /// Reads the host name and the interfaces of the network namespace of this process.
    ///
    /// # Errors
    /// When `/proc` is not mounted, or the kernel refuses the list of interfaces.
    pub fn read() -> io::Result<Self> {
        let hostname = fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
        let interfaces =
            nix::net::if_::if_nameindex()?.iter().map(|i| i.name().to_string_lossy().into_owned()).collect();
        Ok(Self { hostname, interfaces })
    }
}
