//! Evenkeel on a host.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{Host, Process, wait_for};
use crate::status::{BackendState, InstanceState, Status};
use crate::workspace;

/// Generous: machines that run tests are slow at times.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host with a configuration file, on which the daemon runs or has run.
#[derive(Debug)]
pub struct Node {
    host: Host,
    binary: PathBuf,
    /// What the daemon is run by, such as `setpriv --no-new-privs`; none if empty.
    wrapper: Vec<String>,
    daemon: Option<Process>,
}

impl Node {
    /// Makes the host a router and starts the daemon; see [`Node::wait_until`] for when it is of use.
    ///
    /// # Errors
    /// The daemon is not built or cannot be started.
    pub fn start(host: &Host, configuration: &str) -> Result<Self> {
        host.forward()?;
        let mut node =
            Self { host: host.clone(), binary: workspace::evenkeel()?, wrapper: Vec::new(), daemon: None };
        node.write_configuration(configuration)?;
        node.start_daemon()?;
        Ok(node)
    }

    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    #[must_use]
    pub fn configuration_file(&self) -> PathBuf {
        self.host.folder().join("evenkeel.yaml")
    }

    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.host.folder().join("run")
    }

    /// Saves the file, as an editor does: the daemon sees it and applies it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_configuration(&self, configuration: &str) -> Result<()> {
        let new = self.host.folder().join("evenkeel.yaml.new");
        fs::write(&new, configuration).context("cannot write the configuration")?;
        fs::rename(&new, self.configuration_file()).context("cannot replace the configuration")
    }

    /// From its next start on, the daemon is run by this command, which must become it by exec.
    pub fn run_daemon_by(&mut self, wrapper: Vec<String>) {
        self.wrapper = wrapper;
    }

    /// Starts the daemon again.
    ///
    /// # Errors
    /// It cannot be started, or ends before it answers.
    pub fn start_daemon(&mut self) -> Result<()> {
        let mut command = match self.wrapper.split_first() {
            None => self.host.command(&self.binary),
            Some((program, options)) => {
                let mut command = self.host.command(program);
                command.args(options).arg(&self.binary);
                command
            }
        };
        command.args(["run", "--config"]).arg(self.configuration_file());
        command.arg("--run-dir").arg(self.run_dir()).arg("--bpf-dir").arg(self.host.bpf_folder());
        command.arg("--state-dir").arg(self.host.folder().join("state"));
        self.daemon = Some(self.host.spawn("evenkeel", &mut command)?);
        self.wait_until("answers", |_| true).map(drop)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Status> {
        let text = self.evenkeel(&["status", "--json"])?;
        serde_json::from_str(&text).context("`evenkeel status --json` is not as it should be")
    }

    /// Runs a command of the command line that talks to this daemon.
    ///
    /// # Errors
    /// It does not exit with 0; says what it wrote to standard error.
    pub fn evenkeel(&self, words: &[&str]) -> Result<String> {
        let mut command = self.host.command(&self.binary);
        crate::shell::capture(command.args(words).arg("--run-dir").arg(self.run_dir()))
    }

    /// Waits until the status is as wanted, and returns it.
    ///
    /// # Errors
    /// The daemon has ended, or the status does not become so; then says what it was last.
    pub fn wait_until(&mut self, what: &str, mut wanted: impl FnMut(&Status) -> bool) -> Result<Status> {
        let mut last = String::new();
        let name = self.host.name().to_owned();
        let found = wait_for(&format!("{name}: {what}"), PATIENCE, || {
            self.daemon()?.still_runs()?;
            match self.status() {
                Ok(status) if wanted(&status) => return Ok(Some(status)),
                Ok(status) => last = serde_json::to_string_pretty(&status)?,
                Err(error) => last = format!("{error:#}"),
            }
            Ok(None)
        });
        found.with_context(|| format!("the last status of {name} was {last}"))
    }

    /// Waits until every backend of every service is up.
    ///
    /// # Errors
    /// One does not come up.
    pub fn wait_until_backends_are_up(&mut self) -> Result<Status> {
        self.wait_until("every backend up", |status| {
            let mut backends = status.services.iter().flat_map(|service| &service.backends);
            backends.all(|backend| backend.state == BackendState::Up && backend.share > 0.0)
        })
    }

    /// Waits until the backend with this address (`10.0.0.11:80`) is in a state.
    ///
    /// # Errors
    /// It does not get there.
    pub fn wait_until_backend(&mut self, address: &str, state: BackendState) -> Result<Status> {
        self.wait_until(&format!("backend {address} {state:?}"), |status| {
            let mut backends = status.services.iter().flat_map(|service| &service.backends);
            backends.any(|backend| backend.address == address && backend.state == state)
        })
    }

    /// Waits until every instance is in a state.
    ///
    /// # Errors
    /// One does not get there.
    pub fn wait_until_instances(&mut self, state: InstanceState) -> Result<Status> {
        self.wait_until(&format!("every instance {state:?}"), |status| {
            !status.instances.is_empty() && status.instances.iter().all(|instance| instance.state == state)
        })
    }

    /// Waits until one more reload has been tried than `before` tells of, and returns what became of it.
    ///
    /// # Errors
    /// No reload is tried.
    pub fn wait_until_reload(&mut self, before: &Status) -> Result<Status> {
        let tried =
            |status: &Status| status.configuration.reloads_succeeded + status.configuration.reloads_failed;
        self.wait_until("a reload", |status| tried(status) > tried(before))
    }

    /// # Errors
    /// The daemon has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.daemon()?.signal(signal)
    }

    /// `kill -9` for the daemon alone.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_daemon(&mut self) -> Result<()> {
        self.daemon.take().context("the daemon does not run")?.kill()
    }

    /// SIGTERM, and waits until it has ended well.
    ///
    /// # Errors
    /// It does not run, does not end, or reports a failure.
    pub fn stop_daemon(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the daemon does not run")?;
        let status = daemon.stop()?;
        ensure!(status.success(), "evenkeel on {} ended with {status}:\n{}", self.host.name(), daemon.log());
        Ok(())
    }

    fn daemon(&mut self) -> Result<&mut Process> {
        let Some(daemon) = &mut self.daemon else { bail!("the daemon does not run on {}", self.host.name()) };
        Ok(daemon)
    }
}

/// A backend that removes tunnel headers in XDP.
///
/// # Errors
/// The command cannot be started or ends at once.
pub fn decap(host: &Host, interface: &str, destinations: &[&str]) -> Result<Process> {
    let mut command = host.command(workspace::evenkeel()?);
    command.args(["decap", "--interface", interface]).args(destinations);
    let mut process = host.spawn("decap", &mut command)?;
    let attached = wait_for("decap to attach its program", PATIENCE, || {
        process.still_runs()?;
        let link = host.run(["ip", "-details", "link", "show", interface])?;
        Ok(link.contains("prog/xdp").then_some(()))
    });
    attached.map(|()| process)
}
