//! A program that runs, with all that it started in its process group.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::RunError;

/// From asking a program to end to killing it.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether it has ended meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// Dropped before its end was seen, it and its group are killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// While the leader is not reaped no other process can have its number.
    group: Option<Pid>,
}

impl Running {
    pub(super) fn new(child: Child) -> io::Result<Self> {
        let number = child.id().and_then(|id| i32::try_from(id).ok());
        let number = number.ok_or_else(|| io::Error::other("it has no process number"))?;
        Ok(Self { child, group: Some(Pid::from_raw(number)) })
    }

    /// Waits for the leader; what it leaves running is its own business.
    pub(super) async fn wait(&mut self) -> Result<(), RunError> {
        let status = self.child.wait().await.map_err(RunError::Wait)?;
        self.group = None;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => Err(RunError::Exit(code)),
            (None, signal) => Err(RunError::Signal(signal.unwrap_or_default())),
        }
    }

    /// Asks the group to end and kills what is left as soon as its leader is gone, or after 2 s.
    pub async fn end(mut self) {
        let Some(group) = self.group else { return };
        signal(group, Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while leader_runs(group) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        signal(group, Signal::SIGKILL);
        if let Err(error) = self.wait().await
            && matches!(error, RunError::Wait(_))
        {
            tracing::debug!("process {group}: {error}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            signal(group, Signal::SIGKILL);
        }
    }
}

/// Leaves the leader unreaped, and so its number taken.
fn leader_runs(leader: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(leader), flags) == Ok(WaitStatus::StillAlive)
}

fn signal(group: Pid, signal: Signal) {
    if let Err(error) = killpg(group, signal) {
        tracing::warn!("cannot send {signal} to process group {group}: {error}");
    }
}
