//! Runs programs of the operator: as another user, for a limited time, and none of what they started outlives that.
//!
//! Their environment is what they are given and no more; they read and write nothing, and `/` is their folder. Each is a
//! process group of its own.

mod child;
mod running;
mod trusted;
mod user;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

pub use running::Running;
pub use trusted::Untrusted;
use user::{User, UserError};

/// Where programs are searched that a script calls by name.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that is run again and again.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program's absolute path and its arguments.
    command: Vec<String>,
    user: String,
    /// A start may hang, with the file system that the program is on: no other is tried meanwhile.
    starting: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no program is named")]
    Empty,
    #[error(transparent)]
    User(#[from] UserError),
    #[error("{0}; it is not run as root")]
    Untrusted(#[from] Untrusted),
    #[error(
        "cannot start {} as {user}: {source}; this user must be allowed to run it, and Evenkeel to become this user \
         (CAP_SETUID, CAP_SETGID)", program.display()
    )]
    Start { program: PathBuf, user: String, source: io::Error },
    #[error("exited with status {0}")]
    Exit(i32),
    #[error("killed by signal {0}")]
    Signal(i32),
    #[error("still running after {0:?}")]
    Timeout(Duration),
    #[error("its end was not told: {0}")]
    Wait(#[source] io::Error),
}

/// What a run came to.
#[derive(Debug)]
pub struct Finished {
    pub result: Result<(), RunError>,
    /// What still runs after its time is over: to be ended by [`Running::end`] before the next run.
    pub left: Option<Running>,
}

impl From<RunError> for Finished {
    fn from(error: RunError) -> Self {
        Self { result: Err(error), left: None }
    }
}

impl Program {
    /// `user`: nobody if `None`.
    #[must_use]
    pub fn new(command: &[String], user: Option<&str>) -> Self {
        Self {
            command: command.to_vec(),
            user: user.unwrap_or(user::UNPRIVILEGED).to_owned(),
            starting: Arc::new(Semaphore::new(1)),
        }
    }

    /// Runs it with more arguments and variables. Dropped, it kills what it started.
    pub async fn run(
        &self,
        arguments: Vec<String>,
        variables: Vec<(&'static str, String)>,
        limit: Duration,
    ) -> Finished {
        let deadline = Instant::now() + limit;
        let mut running = match timeout_at(deadline, self.start(arguments, variables)).await {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => return error.into(),
            Err(_) => return RunError::Timeout(limit).into(),
        };
        match timeout_at(deadline, running.wait()).await {
            Ok(result) => Finished { result, left: None },
            Err(_) => Finished { result: Err(RunError::Timeout(limit)), left: Some(running) },
        }
    }

    /// The lookup of the user, of the file and the `exec` may wait for a file system or a directory server.
    async fn start(
        &self,
        arguments: Vec<String>,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Running, RunError> {
        let closed = |error| RunError::Wait(io::Error::other(error));
        let starting =
            self.starting.clone().acquire_owned().await.map_err(|error| closed(error.to_string()))?;
        let this = self.clone();
        let start = spawn_blocking(move || {
            let _starting = starting;
            this.spawn(&arguments, variables)
        });
        start.await.map_err(|error| closed(error.to_string()))?
    }

    fn spawn(
        &self,
        arguments: &[String],
        variables: Vec<(&'static str, String)>,
    ) -> Result<Running, RunError> {
        let (program, first) = self.command.split_first().ok_or(RunError::Empty)?;
        let user = User::look_up(&self.user)?;
        if user.is_root() {
            trusted::check(Path::new(program))?;
        }
        let mut command = Command::new(program);
        command.args(first).args(arguments).current_dir("/");
        command.env_clear().env("PATH", PATH).env("HOME", &user.home);
        command.env("USER", &user.name).env("LOGNAME", &user.name).envs(variables);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0);
        child::prepare(&mut command, (user.uid != geteuid()).then_some((user.uid, user.gid)));
        let start = |source| RunError::Start { program: program.into(), user: user.name.clone(), source };
        Running::new(command.spawn().map_err(start)?).map_err(RunError::Wait)
    }
}

#[cfg(test)]
mod tests;
