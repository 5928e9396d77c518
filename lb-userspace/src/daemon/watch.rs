//! Tells when the configuration file was saved.

use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Watches for as long as it lives.
pub(super) struct Watch(#[expect(dead_code, reason = "watches until it is dropped")] RecommendedWatcher);

/// Sends one word for any number of changes not yet taken. The folder is watched, not the file: editors and
/// configuration managers put a new file in its place.
pub(super) fn start(file: &Path, changed: mpsc::Sender<()>) -> notify::Result<Watch> {
    let file: PathBuf = std::path::absolute(file).map_err(notify::Error::io)?;
    let folder = file.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else {
            return;
        };
        let of_content = matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_));
        if of_content && event.paths.contains(&file) {
            // A full channel already says that the file changed.
            let _ = changed.try_send(());
        }
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    Ok(Watch(watcher))
}
