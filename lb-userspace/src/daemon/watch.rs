//! Tells when the configuration file was saved.

use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
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
        if event.need_rescan() || is_complete(event.kind) && event.paths.contains(&file) {
            // A full channel already says that the file changed.
            let _ = changed.try_send(());
        }
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    Ok(Watch(watcher))
}

/// Whether a file has now what its writer meant it to have: closed after writing, or put in place under its name.
/// Between being made or cut short and being closed it may hold half of that.
const fn is_complete(event: EventKind) -> bool {
    matches!(
        event,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To))
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// No event is expected meanwhile, so a slow machine cannot make the test fail.
    const NOTHING_COMES: Duration = Duration::from_millis(200);
    const SOMETHING_COMES: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_file_counts_as_saved_when_it_is_closed_or_put_in_place_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.yaml");
        let (saved, mut inbox) = mpsc::channel(1);
        let _watch = start(&path, saved).unwrap();

        let mut file = File::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        file.sync_all().unwrap();
        assert!(timeout(NOTHING_COMES, inbox.recv()).await.is_err(), "half a file");
        drop(file);
        assert_eq!(timeout(SOMETHING_COMES, inbox.recv()).await, Ok(Some(())), "closed");

        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(timeout(NOTHING_COMES, inbox.recv()).await.is_err(), "chmod");

        let new = folder.path().join("new");
        fs::write(&new, "whole").unwrap();
        assert!(timeout(NOTHING_COMES, inbox.recv()).await.is_err(), "another file");
        fs::rename(&new, &path).unwrap();
        assert_eq!(timeout(SOMETHING_COMES, inbox.recv()).await, Ok(Some(())), "put in place");
    }
}
