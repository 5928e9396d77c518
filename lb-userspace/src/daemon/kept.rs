//! Texts that outlive the daemon, each a file of the state directory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;

use crate::admin::store;

/// The configuration that was applied last, kept for a start that finds a wrong file.
const LAST_APPLIED: &str = "last-applied.yaml";

pub(super) fn last_applied(folder: &Path) -> PathBuf {
    folder.join(LAST_APPLIED)
}

pub(super) struct Kept {
    folder: PathBuf,
    file: &'static str,
    /// What goes wrong if it can't be written.
    or_else: &'static str,
    writing: Option<JoinHandle<()>>,
}

impl Kept {
    pub(super) const fn last_applied(folder: PathBuf) -> Self {
        Self { folder, file: LAST_APPLIED, or_else: "a start with a wrong file would fail", writing: None }
    }

    pub(super) const fn commands(folder: PathBuf) -> Self {
        let or_else = "a restart would forget which backends a command took out";
        Self { folder, file: store::FILE, or_else, writing: None }
    }

    /// Returns at once; texts are written one after the other. A disk that is slow or full keeps nobody waiting.
    pub(super) fn keep(&mut self, text: String) {
        let (folder, before) = (self.folder.clone(), self.writing.take());
        let (file, or_else) = (self.file, self.or_else);
        self.writing = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let shown = folder.display().to_string();
            let written = tokio::task::spawn_blocking(move || write(&folder, file, &text)).await;
            if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                tracing::warn!("{or_else}: cannot write to {shown}: {error}");
            }
        }));
    }

    /// Until everything is written.
    pub(super) async fn written(self) {
        if let Some(writing) = self.writing {
            let _ = writing.await;
        }
    }
}

/// In one step, so that no crash leaves half of it.
fn write(folder: &Path, file: &str, text: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = folder.join(format!("{file}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(&new, folder.join(file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_last_text_is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::write(state.join("last-applied.yaml.new"), "left by a crash").unwrap();
        let mut last = Kept::last_applied(state.clone());
        for number in 0..20 {
            last.keep(format!("text {number}"));
        }
        last.written().await;
        assert_eq!(fs::read_to_string(last_applied(&state)).unwrap(), "text 19");
        assert_eq!(fs::metadata(last_applied(&state)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
