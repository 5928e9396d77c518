//! A small process that outlives the daemon and removes its virtual addresses should it die without doing so.
//!
//! The daemon runs its own binary again with the hidden subcommand `guard` and tells it by a pipe, one JSON line each,
//! which addresses it is about to hold and which it has let go. However the daemon ends, the pipe closes, and whatever
//! is still held is removed: nothing after an orderly end, everything after `kill -9`.
//!
//! A thread waits for the guard itself to end: it is replaced at once, and the new one is told what is held.
//!
//! A service manager that ends the daemon must leave the guard a moment: systemd's `KillMode=control-group` does.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, PipeWriter, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::net::address;

/// Argument that makes the binary a guard.
pub const SUBCOMMAND: &str = "guard";

const ATTEMPTS: u32 = 5;
const ATTEMPT_GAP: Duration = Duration::from_millis(200);
/// Bounds the work when the guard cannot live.
const RESTART_GAP: Duration = Duration::from_secs(1);

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
    child: Child,
    pipe: PipeWriter,
    /// By how many instances: while a reload moves an address from one to another, both hold it. By none: abandoned.
    held: BTreeMap<Held, usize>,
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
    let (child, pipe) = spawn(&program, &arguments, &[])
        .map_err(|source| StartError::Spawn { program: program.display().to_string(), source })?;
    let pid = pid_of(&child);
    let shared = Arc::new(Mutex::new(Shared { program, arguments, child, pipe, held: BTreeMap::new() }));
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
fn spawn(program: &PathBuf, arguments: &[OsString], told: &[u8]) -> io::Result<(Child, PipeWriter)> {
    let (reader, mut pipe) = io::pipe()?;
    let (first, rest) = told.split_at(told.len().min(UNREAD));
    pipe.write_all(first)?;
    let child = Command::new(program)
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
    /// To be called before the address is added, by each instance that does.
    pub fn hold(&self, held: Held) {
        let mut shared = lock(&self.0);
        let holders = shared.held.entry(held).or_default();
        *holders += 1;
        if *holders == 1 {
            shared.tell(Line::Hold(held));
        }
    }

    /// Whether another instance holds the address, so that it must stay. A caller that held it (`own`) then no longer
    /// does: of two that let go at once, one finds itself the last and removes the address.
    #[must_use]
    pub fn left_to_another(&self, held: &Held, own: bool) -> bool {
        let mut shared = lock(&self.0);
        let Some(holders) = shared.held.get_mut(held) else { return false };
        let left = *holders > usize::from(own);
        if left && own {
            *holders -= 1;
        }
        left
    }

    /// Instead of [`Self::release`], by an instance that ends and could not remove the address: any other may remove it
    /// now, the process must when the daemon ends.
    pub fn abandon(&self, held: &Held) {
        if let Some(holders) = lock(&self.0).held.get_mut(held) {
            *holders = holders.saturating_sub(1);
        }
    }

    /// To be called once for each [`Self::hold`], after the address was removed.
    pub fn release(&self, held: Held) {
        let mut shared = lock(&self.0);
        let Some(holders) = shared.held.get_mut(&held) else { return };
        *holders = holders.saturating_sub(1);
        if *holders == 0 {
            shared.held.remove(&held);
            shared.tell(Line::Release(held));
        }
    }
}

impl Shared {
    fn tell(&mut self, line: Line) {
        if let Err(error) = self.write(line) {
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

    fn write(&mut self, line: Line) -> io::Result<()> {
        self.pipe.write_all(&text(line)?)
    }

    fn restart(&mut self) -> io::Result<()> {
        // The old one must not act on its list any more.
        self.child.kill()?;
        self.child.wait()?;
        let lines = self.held.keys().map(|held| text(Line::Hold(*held)));
        let told = lines.collect::<Result<Vec<_>, _>>()?.concat();
        (self.child, self.pipe) = spawn(&self.program, &self.arguments, &told)?;
        Ok(())
    }
}

fn text(line: Line) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    Ok(text)
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
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn held(last: u8) -> Held {
        Held { index: 2, address: Ipv4Addr::new(192, 0, 2, last), length: 24 }
    }

    /// A guard that appends what it is told to the file, after its own process id.
    fn scribe(file: &Path) -> Guard {
        let script = "echo $$ >> \"$0\"; exec cat >> \"$0\"".into();
        start_program("/bin/sh".into(), vec!["-c".into(), script, file.into()]).unwrap()
    }

    fn wait_for_lines(file: &Path, count: usize) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.lines().count() >= count && text.ends_with('\n') {
                return text.lines().map(str::to_owned).collect();
            }
            assert!(Instant::now() < deadline, "never {count} lines: {text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_guard_that_ends_is_replaced_without_being_needed_and_told_what_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let guard = scribe(&file);
        guard.hold(held(1));
        guard.hold(held(2));
        guard.release(held(1));
        for round in 1_usize.. {
            let lines = wait_for_lines(&file, 2 + 2 * round);
            assert_eq!(
                *lines.last().unwrap(),
                if round == 1 { told(Line::Release(held(1))) } else { told(Line::Hold(held(2))) }
            );
            if round == 3 {
                break;
            }
            let pid = lines.iter().rev().find_map(|line| line.parse().ok()).unwrap();
            nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }

    #[test]
    fn an_address_that_moves_between_instances_stays_held() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let guard = scribe(&file);
        guard.hold(held(1));
        guard.hold(held(1));
        guard.release(held(1));
        guard.hold(held(2));
        let lines = wait_for_lines(&file, 3);
        assert_eq!(still_held(lines[1..].join("\n").as_bytes()), BTreeSet::from([held(1), held(2)]));
        guard.release(held(1));
        guard.release(held(1));
        let lines = wait_for_lines(&file, 4);
        assert_eq!(still_held(lines[1..].join("\n").as_bytes()), BTreeSet::from([held(2)]));
    }

    #[test]
    fn of_the_instances_that_hold_an_address_only_the_last_to_let_go_may_remove_it() {
        let folder = tempfile::tempdir().unwrap();
        let guard = scribe(&folder.path().join("told"));
        assert!(!guard.left_to_another(&held(1), false), "nobody holds it");
        guard.hold(held(1));
        assert!(guard.left_to_another(&held(1), false), "a backup leaves it to its holder");
        assert!(!guard.left_to_another(&held(1), true), "the only holder");
        assert!(!guard.left_to_another(&held(2), false), "another address");
        guard.hold(held(1));
        assert!(guard.left_to_another(&held(1), true), "the first of two to let go");
        assert!(!guard.left_to_another(&held(1), true), "the second");
        guard.release(held(1));
        assert!(!guard.left_to_another(&held(1), false), "released");
    }

    #[test]
    fn an_address_that_its_instance_could_not_remove_may_be_removed_by_others_and_is_by_the_guard() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let guard = scribe(&file);
        guard.hold(held(1));
        guard.abandon(&held(1));
        assert!(!guard.left_to_another(&held(1), false));
        guard.hold(held(2));
        let lines = wait_for_lines(&file, 3);
        assert_eq!(still_held(lines[1..].join("\n").as_bytes()), BTreeSet::from([held(1), held(2)]));
    }

    fn told(line: Line) -> String {
        serde_json::to_string(&line).unwrap()
    }

    #[test]
    fn what_was_held_and_not_released_is_left_whatever_cuts_the_pipe() {
        let lines = [Line::Hold(held(1)), Line::Hold(held(2)), Line::Release(held(1)), Line::Hold(held(3))];
        let text = lines.map(told).join("\n");
        assert_eq!(still_held(text.as_bytes()), BTreeSet::from([held(2), held(3)]));
        assert_eq!(still_held(&text.as_bytes()[..text.len() - 1]), BTreeSet::from([held(2)]));
        assert_eq!(still_held(io::empty()), BTreeSet::new());
    }
}
