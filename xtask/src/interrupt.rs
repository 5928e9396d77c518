//! Ctrl-C: at any moment, whatever runs, nothing is left behind.
//!
//! A thread waits for the signal and cleans up by name, not by what the other threads know: it takes the lock under
//! which namespaces and processes are made and never gives it back, ends the groups of processes that were started,
//! removes the test beds, and exits.

use std::collections::BTreeSet;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{self, SigSet, Signal};
use nix::unistd::Pid;

use crate::testbed::cleanup;

/// To be called before another thread starts: threads inherit which signals they leave to the one that waits.
///
/// # Errors
/// The signals cannot be blocked.
pub fn clean_up_on_signals() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("cannot block signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.wait().is_ok() {
                let _never_given_back = creating();
                eprintln!("\ninterrupted: cleaning up");
                for group in lock(&GROUPS).iter() {
                    // A group that has just ended is no error.
                    let _ = signal::killpg(Pid::from_raw(*group), Signal::SIGKILL);
                }
                cleanup::sweep_own();
                cleanup::sweep_stale();
                process::exit(if EXPECTED.load(Ordering::Relaxed) { 0 } else { 130 });
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// From now on a signal is the way to end, not a failure.
pub fn expect() {
    EXPECTED.store(true, Ordering::Relaxed);
}

/// Held while a namespace or a process is made, so that a clean-up under way meets nothing half made.
pub fn creating() -> MutexGuard<'static, ()> {
    lock(&CREATING)
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
