//! What systemd wants to know of a service of `Type=notify`: sd_notify(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The daemon serves; before this, `systemctl start` waits.
pub(super) const READY: &str = "READY=1";
/// It was told to stop and is giving its addresses away.
pub(super) const STOPPING: &str = "STOPPING=1";

/// Tells systemd, if that has started the daemon.
pub(super) fn notify(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("cannot tell systemd `{state}` at {}: {error}", socket.display());
    }
}

/// Never waits: the daemon's task must not, whatever reads there.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    // `@` stands for the zero byte of the abstract namespace: unix(7).
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut text = [0; 64];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    #[test]
    fn a_state_arrives_at_a_socket_with_a_path_and_at_an_abstract_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), READY).unwrap();
        assert_eq!(received(&socket), "READY=1");

        let name = format!("evenkeel-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), STOPPING).unwrap();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error_and_nothing_worse() {
        assert!(send(OsStr::new("/nonexistent/notify"), READY).is_err());
    }
}
