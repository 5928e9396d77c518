//! The text of the configuration that was applied last, kept for a start that finds a wrong file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;

/// In the state directory.
const FILE: &str = "last-applied.yaml";

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

pub(super) struct LastApplied {
    folder: PathBuf,
    writing: Option<JoinHandle<()>>,
}

impl LastApplied {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, writing: None }
    }

    /// Returns at once; texts are written one after the other. A disk that is slow or full keeps nobody waiting.
    pub(super) fn keep(&mut self, text: String) {
        let (folder, before) = (self.folder.clone(), self.writing.take());
        self.writing = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let shown = folder.display().to_string();
            let written = tokio::task::spawn_blocking(move || write(&folder, &text)).await;
            if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                tracing::warn!("a start with a wrong file would fail: cannot write to {shown}: {error}");
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
fn write(folder: &Path, text: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = folder.join(format!("{FILE}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path(folder))
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
        let mut last = LastApplied::new(state.clone());
        for number in 0..20 {
            last.keep(format!("text {number}"));
        }
        last.written().await;
        assert_eq!(fs::read_to_string(path(&state)).unwrap(), "text 19");
        assert_eq!(fs::metadata(path(&state)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
