//! A small process that outlives the daemon and removes its virtual addresses should it die without doing so.
//!
//! The daemon runs its own binary again with the hidden subcommand `guard` and tells it by a pipe, one JSON line each,
//! which addresses it is about to hold and which it has let go. However the daemon ends, the pipe closes, and whatever
//! is still held is removed: nothing after an orderly end, everything after `kill -9`.
//!
//! A service manager that ends the daemon must leave the guard a moment: systemd's `KillMode=control-group` does.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::net::address;

/// Argument that makes the binary a guard.
pub const SUBCOMMAND: &str = "guard";

const ATTEMPTS: u32 = 5;
const ATTEMPT_GAP: Duration = Duration::from_millis(200);

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Held {
    pub index: u32,
    pub address: Ipv4Addr,
    pub length: u8,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Hold(Held),
    Release(Held),
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start the process that removes virtual addresses after a crash ({program}): {source}")]
    Spawn { program: String, source: io::Error },
}

/// The daemon's end. Clones share one process.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    program: PathBuf,
    arguments: Vec<OsString>,
    child: Child,
    held: BTreeSet<Held>,
}

/// Starts the guard, from this program's own binary and in the caller's network namespace.
///
/// # Errors
/// When the process cannot be started.
pub fn start() -> Result<Guard, StartError> {
    // Not the path it was started by: that one may hold another version by now.
    start_program("/proc/self/exe".into(), vec![SUBCOMMAND.into()])
}

/// Starts the guard from a program that calls [`run`] when given these arguments.
///
/// # Errors
/// When the process cannot be started.
pub fn start_program(program: PathBuf, arguments: Vec<OsString>) -> Result<Guard, StartError> {
    let child = spawn(&program, &arguments)
        .map_err(|source| StartError::Spawn { program: program.display().to_string(), source })?;
    Ok(Guard(Arc::new(Mutex::new(Shared { program, arguments, child, held: BTreeSet::new() }))))
}

fn spawn(program: &PathBuf, arguments: &[OsString]) -> io::Result<Child> {
    Command::new(program)
        .arg0("evenkeel")
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // Ctrl-C in a terminal goes to the daemon's group only.
        .process_group(0)
        .spawn()
}

impl Guard {
    /// To be called before the address is added.
    pub fn hold(&self, held: Held) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.held.insert(held) {
            shared.tell(Line::Hold(held));
        }
    }

    /// To be called after the address was removed.
    pub fn release(&self, held: Held) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.held.remove(&held) {
            shared.tell(Line::Release(held));
        }
    }
}

impl Shared {
    fn tell(&mut self, line: Line) {
        if let Err(error) = self.write(line) {
            tracing::warn!("the guard process is gone ({error}), starting another");
            if let Err(error) = self.restart() {
                tracing::error!(
                    "no guard process: {error}; should the daemon be killed, its virtual addresses stay"
                );
            }
        }
    }

    fn write(&mut self, line: Line) -> io::Result<()> {
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        self.child.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(text.as_bytes())
    }

    fn restart(&mut self) -> io::Result<()> {
        // The old one must not act on its list any more.
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.program, &self.arguments)?;
        self.held.clone().into_iter().try_for_each(|held| self.write(Line::Hold(held)))
    }
}

/// What the hidden subcommand does: reads the pipe on standard input to its end, then removes what is still held.
///
/// # Errors
/// When an address could not be removed.
pub fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A stop signal for the whole control group or session must not end the guard before the daemon. A handler that
    // nobody listens to stays for the life of the process.
    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()] {
        drop(runtime.block_on(async { signal(kind) }).context("cannot ignore signals")?);
    }
    let held = still_held(io::stdin().lock());
    if held.is_empty() {
        return Ok(());
    }
    tracing::warn!("the daemon ended without releasing {} virtual addresses, removing them", held.len());
    runtime.block_on(remove_all(&held))
}

fn still_held(lines: impl BufRead) -> BTreeSet<Held> {
    let mut held = BTreeSet::new();
    // A line cut short or unreadable ends the list like the end of the pipe: its address was not added yet.
    for line in lines.lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Line::Hold(address)) => held.insert(address),
            Ok(Line::Release(address)) => held.remove(&address),
            Err(_) => break,
        };
    }
    held
}

async fn remove_all(held: &BTreeSet<Held>) -> anyhow::Result<()> {
    for attempt in 1.. {
        match remove_once(held).await {
            Ok(()) => break,
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => tracing::warn!("{error:#}, trying again"),
        }
        tokio::time::sleep(ATTEMPT_GAP).await;
    }
    Ok(())
}

async fn remove_once(held: &BTreeSet<Held>) -> anyhow::Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection().context("cannot open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let mut result = Ok(());
    for held in held {
        if let Err(error) = address::delete(&netlink, held.index, held.address, held.length).await {
            result = Err(error.into());
        }
    }
    connection.abort();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_and_not_released_is_left_whatever_cuts_the_pipe() {
        let held = |last| Held { index: 2, address: Ipv4Addr::new(192, 0, 2, last), length: 24 };
        let line = |line| serde_json::to_string(&line).unwrap();
        let text = [
            line(Line::Hold(held(1))),
            line(Line::Hold(held(2))),
            line(Line::Release(held(1))),
            line(Line::Hold(held(3))),
        ]
        .join("\n");
        assert_eq!(still_held(text.as_bytes()), BTreeSet::from([held(2), held(3)]));
        assert_eq!(still_held(&text.as_bytes()[..text.len() - 1]), BTreeSet::from([held(2)]));
        assert_eq!(still_held(io::empty()), BTreeSet::new());
    }
}
