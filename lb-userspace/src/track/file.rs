//! The number in a file. Read when the kernel says that the file changed, and every second: no notification comes from a
//! network file system, or for a file behind a symbolic link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Reporter;
use super::machine::Finding;
use crate::config::model::Subject;

const INTERVAL: Duration = Duration::from_secs(1);
/// A file system that takes longer has no number for us.
const LIMIT: Duration = Duration::from_secs(5);
/// More digits than a number has that makes a difference.
const MAX_BYTES: u64 = 64;

pub(super) async fn follow(path: PathBuf, watch: Arc<Watch>, report: Reporter) {
    let changed = watch.add(&path);
    let subject = Subject::File(path.clone());
    loop {
        let path = path.clone();
        let mut reading = spawn_blocking(move || read(&path));
        match timeout(LIMIT, &mut reading).await {
            Ok(Ok(finding)) => report.found(&subject, finding),
            Ok(Err(error)) => tracing::warn!("a tracked file is not read: {error}"),
            Err(_) => {
                let detail = format!("cannot be read within {LIMIT:?}, taken for 0");
                report.found(&subject, Finding::Number(0, detail));
                // No second thread is to hang in the same file system.
                let _ = reading.await;
            }
        }
        // Whether it was woken or not, the file is read again.
        let _ = timeout(INTERVAL, changed.notified()).await;
    }
}

fn read(path: &Path) -> Finding {
    let mut text = String::new();
    // Opening a FIFO would wait for its writer.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    match opened.and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)) {
        Ok(_) => number(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::Number(0, "absent, taken for 0".to_owned())
        }
        Err(error) => Finding::Number(0, format!("cannot be read, taken for 0: {error}")),
    }
}

/// The first word of the text.
fn number(text: &str) -> Finding {
    let word = text.split_whitespace().next().unwrap_or_default();
    match word.parse() {
        Ok(number) => Finding::Number(number, format!("is {number}")),
        Err(_) => Finding::Number(0, "begins with no number, taken for 0".to_owned()),
    }
}

/// Wakes those who wait for a change of a file.
#[derive(Debug)]
pub(super) struct Watch {
    waiting: Arc<Mutex<BTreeMap<PathBuf, Arc<Notify>>>>,
    /// `None`: the host has no more watches to give.
    watcher: Mutex<Option<RecommendedWatcher>>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let waiting: Arc<Mutex<BTreeMap<PathBuf, Arc<Notify>>>> = Arc::default();
        let woken = waiting.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if !is_complete(event.kind) {
                return;
            }
            let waiting = woken.lock().unwrap_or_else(PoisonError::into_inner);
            event.paths.iter().filter_map(|path| waiting.get(path)).for_each(|notify| notify.notify_one());
        });
        let told = |error: &notify::Error| tracing::debug!("tracked files are read every second: {error}");
        Self { waiting, watcher: Mutex::new(watcher.inspect_err(told).ok()) }
    }

    /// The folder is watched, not the file, which may be replaced.
    fn add(&self, path: &Path) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), notify.clone());
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(watcher), Some(folder)) = (watcher.as_mut(), path.parent())
            && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
        {
            tracing::debug!("{} is read every second: {error}", path.display());
        }
        notify
    }

    pub(super) fn retain(&self, subjects: &BTreeSet<Subject>) {
        let files: BTreeSet<_> = subjects
            .iter()
            .filter_map(|subject| match subject {
                Subject::File(path) => Some(path),
                _ => None,
            })
            .collect();
        let folders: BTreeSet<_> = files.iter().filter_map(|path| path.parent()).collect();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = waiting.extract_if(.., |path, _| !files.contains(path)).collect();
        drop(waiting);
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let left: BTreeSet<_> = gone.iter().filter_map(|(path, _)| path.parent()).collect();
        for folder in left.difference(&folders) {
            // One that is gone is not watched any more anyway.
            let _ = watcher.as_mut().map(|watcher| watcher.unwatch(folder));
        }
    }
}

/// Whether the file has now what its writer meant it to have, or is gone. Between being cut short and being closed it may
/// hold half of that.
const fn is_complete(event: EventKind) -> bool {
    matches!(
        event,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_first_word_and_anything_else_is_0() {
        let rows = [
            ("3\n", 3),
            (" -2 because of the disk", -2),
            ("+7", 7),
            ("", 0),
            ("ill", 0),
            ("3x", 0),
            ("99999999999", 0),
        ];
        for (text, wanted) in rows {
            assert!(matches!(number(text), Finding::Number(number, _) if number == wanted), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_0_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let detail = |path: &Path| match read(path) {
            Finding::Number(0, detail) => detail,
            other => panic!("{other:?}"),
        };
        assert_eq!(detail(&folder.path().join("none")), "absent, taken for 0");
        assert!(detail(folder.path()).starts_with("cannot be read, taken for 0"));
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(detail(&fifo), "begins with no number, taken for 0");
    }
}
