//! Settings of single interfaces under `/proc/sys/net`, in the network namespace of the calling thread.

use std::io;
use std::path::PathBuf;

/// `ipv4` or `ipv6`, the interface's name, the setting's.
fn path(family: &str, interface: &str, key: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(family).join("conf").join(interface).join(key)
}

/// # Errors
/// There is no such interface or setting, or it is no number.
pub fn read(family: &str, interface: &str, key: &str) -> io::Result<i32> {
    let text = std::fs::read_to_string(path(family, interface, key))?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// # Errors
/// There is no such interface or setting, or it may not be changed.
pub fn write(family: &str, interface: &str, key: &str, value: i32) -> io::Result<()> {
    std::fs::write(path(family, interface, key), value.to_string())
}
