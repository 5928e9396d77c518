//! A FIFO that gets a line for every transition, as soon as somebody reads it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe::{OpenOptions, Sender};
use tokio::time::sleep;

use super::line::line;
use super::queue::Queue;
use super::{Outcome, Transition, lock};

/// Nothing tells when a reader comes.
const AGAIN: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("cannot make the FIFO {}: {source}; its folder must be there and belong to the user of Evenkeel", path.display())]
    Make { path: PathBuf, source: Errno },
    #[error("{} is no FIFO; remove it, or name another path", path.display())]
    NoFifo { path: PathBuf },
    #[error("nobody reads {}", path.display())]
    NoReader { path: PathBuf },
    #[error("cannot write to {}: {source}; let the FIFO belong to the user of Evenkeel", path.display())]
    Write { path: PathBuf, source: io::Error },
}

pub(super) async fn work(path: PathBuf, queue: Arc<Queue<Transition>>, outcome: Arc<Mutex<Outcome>>) {
    let mut fifo = Fifo { path, open: None };
    // Made at once, so that a reader may wait at it.
    note(&outcome, fifo.make().err());
    while let Some(transition) = queue.first().await {
        let line = line(&transition);
        let mut failed = false;
        while let Err(error) = fifo.write(&line).await {
            let failure = Some(error).filter(|error| !matches!(error, WriteError::NoReader { .. }));
            if failure.is_some() && !failed {
                failed = true;
                let mut outcome = lock(&outcome);
                outcome.failed = outcome.failed.saturating_add(1);
            }
            note(&outcome, failure);
            sleep(AGAIN).await;
        }
        queue.done();
        lock(&outcome).succeed();
    }
}

/// Keeps why nothing can be written, and logs it when it is another reason than before. That nobody reads is none: it may
/// be meant so, and what waits and what is lost is counted.
fn note(outcome: &Mutex<Outcome>, failure: Option<WriteError>) {
    let text = failure.map(|failure| failure.to_string());
    let mut outcome = lock(outcome);
    if let Some(text) = text.as_ref().filter(|text| outcome.error.as_ref() != Some(text)) {
        tracing::warn!("transitions wait: {text}");
    }
    outcome.error = text;
}

struct Fifo {
    path: PathBuf,
    /// Kept when its reader is gone: what is in the FIFO would be lost with its last end.
    open: Option<Open>,
}

struct Open {
    sender: Sender,
    place: (u64, u64),
}

impl Fifo {
    /// Makes it if it is missing, for its owner alone.
    fn make(&self) -> Result<(), WriteError> {
        match mkfifo(&self.path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(source) => Err(WriteError::Make { path: self.path.clone(), source }),
        }
    }

    async fn write(&mut self, line: &[u8]) -> Result<(), WriteError> {
        let open = self.open()?;
        loop {
            // A FIFO that nobody reads has room until it is full.
            match open.sender.try_write(line) {
                Ok(_whole) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.failure(error)),
            }
            if let Err(error) = open.sender.writable().await {
                return Err(self.failure(error));
            }
        }
    }

    /// Opens it, unless it is open and still the one of that name.
    fn open(&mut self) -> Result<&Open, WriteError> {
        self.make()?;
        let place = place(&self.path).map_err(|error| self.failure(error))?;
        let place = place.ok_or_else(|| WriteError::NoFifo { path: self.path.clone() })?;
        let open = match self.open.take().filter(|open| open.place == place) {
            Some(open) => open,
            None => {
                let sender = OpenOptions::new().open_sender(&self.path);
                Open { sender: sender.map_err(|error| self.failure(error))?, place }
            }
        };
        Ok(self.open.insert(open))
    }

    fn failure(&self, source: io::Error) -> WriteError {
        let path = self.path.clone();
        match source.raw_os_error() {
            Some(libc::ENXIO | libc::EPIPE) => WriteError::NoReader { path },
            _ => WriteError::Write { path, source },
        }
    }
}

/// Which FIFO it is; `None` if it is none.
fn place(path: &Path) -> io::Result<Option<(u64, u64)>> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.file_type().is_fifo().then(|| (metadata.dev(), metadata.ino())))
}
