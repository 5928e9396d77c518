//! What a child does between `fork` and `exec`: it gives up what only the daemon should have.

use std::io;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid, write};
use tokio::process::Command;

/// Has the child become another user, without supplementary groups, and none that the kernel spares or lets run before
/// all others.
pub(super) fn prepare(command: &mut Command, other: Option<(Uid, Gid)>) {
    let child = move || -> io::Result<()> {
        // At worst, a program that takes too much memory outlives others.
        let _ = be_killed_like_others();
        setrlimit(Resource::RLIMIT_RTPRIO, 0, 0)?;
        // Last: whose user has changed has no access to its own `oom_score_adj` until `exec` (`PR_SET_DUMPABLE`).
        if let Some((user, group)) = other {
            setgroups(&[])?;
            setgid(group)?;
            setuid(user)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls only: it neither allocates nor takes a lock.
    unsafe { command.pre_exec(child) };
}

/// Under the systemd unit the daemon is the last process that a full memory ends; what it starts inherits that.
fn be_killed_like_others() -> Result<(), Errno> {
    let file = open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(file, b"0").map(drop)
}
