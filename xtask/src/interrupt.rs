//! Ctrl-C: at any moment, whatever runs, nothing is left behind.
//!
//! A thread waits for the signal and cleans up by name, not by what the other threads know: it takes the lock under
//! which namespaces and processes are made and never gives it back, ends the groups of processes that were started,
//! removes the test beds, and exits.

use std::collections::BTreeSet;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::runtime::Builder;
use tokio::signal::unix::{self, SignalKind};

use crate::shell::complain;
use crate::testbed::cleanup;

/// From now on SIGINT, SIGTERM and SIGHUP clean up and end the process; calling it again changes nothing.
///
/// By handlers, which programs that are started do not inherit, and not by blocking, which they would.
///
/// # Errors
/// The handlers cannot be installed.
pub fn clean_up_on_signals() -> Result<()> {
    static STARTED: OnceLock<()> = OnceLock::new();
    if STARTED.set(()).is_err() {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_io().build().context("cannot start a runtime")?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _entered = runtime.enter();
        let install = |kind| unix::signal(kind).context("cannot install a signal handler");
        (install(SignalKind::interrupt())?, install(SignalKind::terminate())?, install(SignalKind::hangup())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        clean_up();
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).context("cannot start a thread")?;
    Ok(())
}

fn clean_up() -> ! {
    let _never_given_back = creating();
    complain("\ninterrupted: cleaning up");
    let groups = lock(&GROUPS).clone();
    end(&groups, Signal::SIGTERM);
    end(&groups, Signal::SIGKILL);
    cleanup::sweep_own();
    cleanup::sweep_stale();
    process::exit(if EXPECTED.load(Ordering::Relaxed) { 0 } else { 130 });
}

/// Signals these groups and gives them time to end: test programs clean up after themselves, apt-get finishes a step.
fn end(groups: &BTreeSet<i32>, signal: Signal) {
    for group in groups {
        // A group that has just ended is no error.
        let _ = signal::killpg(Pid::from_raw(*group), signal);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while cleanup::any_runs(groups) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
}

/// From now on a signal is the way to end, not a failure.
pub fn expect() {
    EXPECTED.store(true, Ordering::Relaxed);
}

/// Held while a namespace or a process is made, so that a clean-up under way meets nothing half made.
pub fn creating() -> MutexGuard<'static, ()> {
    lock(&CREATING)
}

/// Does not return once a clean-up is under way: what has ended then was ended by it.
pub fn settle() {
    drop(creating());
}

/// A group of processes to end on a signal, until this is dropped.
#[derive(Debug)]
pub struct Group(i32);

/// Registers the group that the process `leader` leads.
#[must_use]
pub fn register_group(leader: u32) -> Group {
    let group = i32::try_from(leader).unwrap_or(i32::MAX);
    lock(&GROUPS).insert(group);
    Group(group)
}

impl Drop for Group {
    fn drop(&mut self) {
        lock(&GROUPS).remove(&self.0);
    }
}

static EXPECTED: AtomicBool = AtomicBool::new(false);
static CREATING: Mutex<()> = Mutex::new(());
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// What these locks guard is valid after a panic too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
