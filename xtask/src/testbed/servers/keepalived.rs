//! keepalived, as the other node of a VRRP pair.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::testbed::{Host, Process, wait_for};

#[derive(Debug)]
pub struct Keepalived {
    pub process: Process,
}

impl Keepalived {
    /// Starts it with this configuration.
    ///
    /// # Errors
    /// It does not start, or finds the configuration wrong.
    pub fn start(host: &Host, configuration: &str) -> Result<Self> {
        let folder = host.folder();
        let file = folder.join("keepalived.conf");
        fs::write(&file, configuration).context("cannot write keepalived.conf")?;
        let mut command = host.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"]).arg(&file);
        for option in ["pid", "vrrp_pid", "checkers_pid"] {
            command.arg(format!("--{option}")).arg(folder.join(option));
        }
        let mut process = host.spawn("keepalived", &mut command)?;
        wait_for("keepalived to start", Duration::from_secs(20), || {
            process.still_runs()?;
            Ok(process.log().contains("Entering").then_some(()))
        })?;
        Ok(Self { process })
    }

    /// `kill -9` for all of its processes at once: a child that outlives its parent is told to stop, and does so cleanly.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_all(&mut self) -> Result<()> {
        self.process.still_runs()?;
        let group = Pid::from_raw(i32::try_from(self.process.pid()).context("a process id beyond i32")?);
        killpg(group, Signal::SIGKILL).context("cannot kill keepalived")?;
        self.process.kill()
    }
}
