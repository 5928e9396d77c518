//! A small process that outlives the daemon and undoes what it did to the host for its virtual addresses, should it die
//! without doing so.
//!
//! The daemon runs its own binary again with the hidden subcommand `guard` and tells it by a pipe, one JSON line each,
//! which [`Thing`] it is about to hold and which it has let go. However the daemon ends, the pipe closes, and whatever
//! is still held is undone: nothing after an orderly end, everything after `kill -9`. The guard learns of that early, by a
//! [`canary`].
//!
//! A thread waits for the guard itself to end: it is replaced at once, and the new one is told what is held.
//!
//! A service manager that ends the daemon must leave the guard a moment: systemd's `KillMode=control-group` does.

mod canary;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use canary::{Canary, UntilDeath};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::realtime;
pub use super::thing::Thing;
use super::thing::undo;
use crate::net::netlink::Requests;

/// Argument that makes the binary a guard.
pub const SUBCOMMAND: &str = "guard";

const ATTEMPTS: u32 = 5;
const ATTEMPT_GAP: Duration = Duration::from_millis(200);
/// Bounds the work when the guard cannot live.
const RESTART_GAP: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Hold(Thing),
    Release(Thing),
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start the process that removes virtual addresses after a crash ({program}): {source}")]
    Spawn { program: String, source: io::Error },
    #[error("cannot start the thread that watches the process for virtual addresses: {0}")]
    Watch(io::Error),
}

/// The daemon's end. Clones share one process.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    program: PathBuf,
    arguments: Vec<OsString>,
    canary: Option<Canary>,
    child: Child,
    pipe: PipeWriter,
    held: BTreeSet<Thing>,
}

/// Starts the guard, from this program's own binary and in the caller's network namespace.
///
/// # Errors
/// When the process or the thread that watches it cannot be started.
pub fn start() -> Result<Guard, StartError> {
    // Not the path it was started by: that one may hold another version by now.
    start_program("/proc/self/exe".into(), vec![SUBCOMMAND.into()])
}

/// Starts the guard from a program that calls [`run`] when given these arguments.
///
/// # Errors
/// When the process or the thread that watches it cannot be started.
pub fn start_program(program: PathBuf, arguments: Vec<OsString>) -> Result<Guard, StartError> {
    let canary = Canary::start()
        .inspect_err(|error| {
            tracing::warn!("after a crash virtual addresses go some milliseconds later: {error}")
        })
        .ok();
    let (child, pipe) = spawn(&program, &arguments, canary.as_ref(), &[])
        .map_err(|source| StartError::Spawn { program: program.display().to_string(), source })?;
    let pid = pid_of(&child);
    let shared =
        Arc::new(Mutex::new(Shared { program, arguments, canary, child, pipe, held: BTreeSet::new() }));
    let watched = Arc::downgrade(&shared);
    // In the caller's network namespace, which a guard that it starts inherits.
    std::thread::Builder::new()
        .name("guard watch".into())
        .spawn(move || watch(&watched, pid))
        .map_err(StartError::Watch)?;
    Ok(Guard(shared))
}

/// Bytes that a pipe takes without a reader, however little memory pipes may have (pipe(7)).
const UNREAD: usize = 4096;

/// What it is `told` at first is in the pipe before the process is there, so that the end of the daemon can't come in between;
/// as much of it as the pipe takes.
fn spawn(
    program: &PathBuf,
    arguments: &[OsString],
    canary: Option<&Canary>,
    told: &[u8],
) -> io::Result<(Child, PipeWriter)> {
    let (reader, mut pipe) = io::pipe()?;
    let (first, rest) = told.split_at(told.len().min(UNREAD));
    pipe.write_all(first)?;
    let mut command = Command::new(program);
    if let Some(canary) = canary {
        canary.hand_to(&mut command);
    }
    let child = command
        .arg0("evenkeel")
        .args(arguments)
        .current_dir("/")
        .stdin(reader)
        .stdout(Stdio::null())
        // Ctrl-C in a terminal goes to the daemon's group only.
        .process_group(0)
        .spawn()?;
    pipe.write_all(rest)?;
    Ok((child, pipe))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Replaces the process whenever it ends, until the last [`Guard`] is dropped.
fn watch(shared: &Weak<Mutex<Shared>>, mut child: Pid) {
    loop {
        // Without reaping, so that its number can mean no other process. An error means that it was replaced meanwhile.
        let _ = waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let Some(shared) = shared.upgrade() else {
            let _ = waitpid(child, None);
            return;
        };
        child = lock(&shared).look_after();
        drop(shared);
        std::thread::sleep(RESTART_GAP);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// To be called before it is done.
    pub fn hold(&self, things: &[Thing]) {
        let mut shared = lock(&self.0);
        let new = things.iter().filter(|thing| shared.held.insert((*thing).clone())).cloned();
        let lines: Vec<Line> = new.map(Line::Hold).collect();
        shared.tell(&lines);
    }

    /// To be called after it was undone.
    pub fn release(&self, things: &[Thing]) {
        let mut shared = lock(&self.0);
        let gone = things.iter().filter(|thing| shared.held.remove(thing)).cloned();
        let lines: Vec<Line> = gone.map(Line::Release).collect();
        shared.tell(&lines);
    }
}

impl Shared {
    fn tell(&mut self, lines: &[Line]) {
        if lines.is_empty() {
            return;
        }
        if let Err(error) = self.write(lines) {
            self.replace(&error);
        }
    }

    /// The process to wait for: the one there is if it lives, else another.
    fn look_after(&mut self) -> Pid {
        match self.child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => self.replace(&status),
            Err(error) => self.replace(&error),
        }
        pid_of(&self.child)
    }

    fn replace(&mut self, why: &dyn fmt::Display) {
        tracing::warn!("the guard process is gone ({why}), starting another");
        if let Err(error) = self.restart() {
            tracing::error!(
                "no guard process: {error}; should the daemon be killed, its virtual addresses stay; trying again"
            );
        }
    }

    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        self.pipe.write_all(&text(lines)?)
    }

    fn restart(&mut self) -> io::Result<()> {
        // The old one must not act on its list any more.
        self.child.kill()?;
        self.child.wait()?;
        let lines: Vec<Line> = self.held.iter().cloned().map(Line::Hold).collect();
        let told = text(&lines)?;
        (self.child, self.pipe) = spawn(&self.program, &self.arguments, self.canary.as_ref(), &told)?;
        Ok(())
    }
}

fn text(lines: &[Line]) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// What the hidden subcommand does: reads the pipe on standard input to its end, then undoes what is still held.
///
/// # Errors
/// When something could not be undone.
pub fn run() -> anyhow::Result<()> {
    // A busy host must not keep the addresses of a dead daemon.
    realtime::enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A stop signal for the whole control group or session must not end the guard before the daemon. A handler that
    // nobody listens to stays for the life of the process.
    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()] {
        drop(runtime.block_on(async { signal(kind) }).context("cannot ignore signals")?);
    }
    let held = still_held(BufReader::new(UntilDeath::new(io::stdin().lock())));
    if held.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        "the daemon ended without undoing {} things it did for its virtual addresses: undoing them",
        held.len()
    );
    undo_all(held.into_iter().collect())
}

fn still_held(lines: impl BufRead) -> BTreeSet<Thing> {
    let mut held = BTreeSet::new();
    // A line cut short or unreadable ends the list like the end of the pipe: it was not done yet.
    for line in lines.lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Line::Hold(thing)) => held.insert(thing),
            Ok(Line::Release(thing)) => held.remove(&thing),
            Err(_) => break,
        };
    }
    held
}

fn undo_all(mut things: Vec<Thing>) -> anyhow::Result<()> {
    for attempt in 1.. {
        match undo_once(&mut things) {
            Ok(()) => break,
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => tracing::warn!("{error:#}, trying again"),
        }
        std::thread::sleep(ATTEMPT_GAP);
    }
    Ok(())
}

/// Leaves what could not be undone.
fn undo_once(things: &mut Vec<Thing>) -> anyhow::Result<()> {
    let mut netlink = Requests::open().context("cannot open a netlink socket")?;
    let answers = undo(&mut netlink, things).context("netlink does not answer")?;
    let mut result = Ok(());
    let mut left = Vec::new();
    for (thing, answer) in things.drain(..).zip(answers) {
        if let Err(error) = answer {
            result = Err(error).context(format!("cannot undo {thing}"));
            left.push(thing);
        }
    }
    *things = left;
    result
}
