//! Removes test beds by name: their processes, namespaces, BPF pins and folders.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::shell::{capture, complain};

const FOLDER: &str = "/run/evenkeel-testbed";
const NAMESPACES: &str = "/run/netns";
const BPF_FOLDER: &str = "/sys/fs/bpf";

/// Beds of this process.
static OWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub(super) fn remember(bed: &str) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(bed.to_owned());
}

pub(super) fn forget(bed: &str) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).remove(bed);
}

/// Where a bed keeps its files.
#[must_use]
pub fn folder(bed: &str) -> PathBuf {
    Path::new(FOLDER).join(bed)
}

/// Beside the folder, so that the lock is still held while the folder goes.
#[must_use]
pub fn lock_file(bed: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{bed}.lock"))
}

/// The namespace of a host.
#[must_use]
pub fn namespace(bed: &str, host: &str) -> String {
    format!("{}{host}", prefix(bed))
}

/// Where a host's namespace can be entered.
#[must_use]
pub fn namespace_file(namespace: &str) -> PathBuf {
    Path::new(NAMESPACES).join(namespace)
}

/// Where a host pins its BPF objects.
#[must_use]
pub fn bpf_folder(bed: &str, host: &str) -> PathBuf {
    Path::new(BPF_FOLDER).join(namespace(bed, host))
}

fn prefix(bed: &str) -> String {
    format!("ek-{bed}-")
}

/// Removes everything of the beds of this process, which is about to exit.
pub fn sweep_own() {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for bed in own {
        sweep(&bed);
    }
    // Nobody else will, and where process 1 does not either, they would stay as zombies.
    while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
    {
    }
}

/// Removes everything of beds whose process is gone.
pub fn sweep_stale() {
    for path in entries(Path::new(FOLDER)) {
        let Some(bed) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".lock")) else {
            continue;
        };
        let Ok(file) = File::open(&path) else { continue };
        if let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            sweep(bed);
        }
    }
}

/// Removes everything of one bed; what is gone already is no error.
pub fn sweep(bed: &str) {
    let mine = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix(bed)))
    };
    let namespaces: Vec<PathBuf> = entries(Path::new(NAMESPACES)).into_iter().filter(mine).collect();
    kill_inside(&namespaces);
    for pins in entries(Path::new(BPF_FOLDER)).into_iter().filter(mine) {
        let _ = fs::remove_dir_all(pins);
    }
    for namespace in namespaces {
        let name = namespace.file_name().unwrap_or_default();
        if let Err(error) = capture(Command::new("ip").args(["netns", "delete"]).arg(name)) {
            complain(format_args!("cannot remove {}: {error:#}", namespace.display()));
        }
    }
    let _ = fs::remove_dir_all(folder(bed));
    let _ = fs::remove_file(lock_file(bed));
    // Goes with the last bed.
    let _ = fs::remove_dir(FOLDER);
}

/// Ends the processes in these namespaces and waits until they are gone: a server that still runs keeps its files.
fn kill_inside(namespaces: &[PathBuf]) {
    let inodes: BTreeSet<(u64, u64)> = namespaces.iter().filter_map(|path| identity(path)).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let inside: Vec<i32> = processes().filter(|pid| runs_in(*pid, &inodes)).collect();
        if inside.is_empty() {
            return;
        }
        for pid in inside {
            // One that has just ended is no error.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let own = i32::try_from(std::process::id()).ok();
    let names = entries(Path::new("/proc")).into_iter();
    names.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).filter(move |pid| Some(*pid) != own)
}

/// Whether a process of one of these groups runs; a zombie does not.
pub fn any_runs(groups: &BTreeSet<i32>) -> bool {
    !groups.is_empty() && processes().filter_map(group_of).any(|group| groups.contains(&group))
}

/// From `/proc/PID/stat`, where the name in parentheses may contain anything: proc_pid_stat(5).
fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    (state != "Z").then_some(group)
}

/// A zombie is in no namespace any more.
fn runs_in(pid: i32, namespaces: &BTreeSet<(u64, u64)>) -> bool {
    identity(&Path::new("/proc").join(pid.to_string()).join("ns/net"))
        .is_some_and(|id| namespaces.contains(&id))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}
