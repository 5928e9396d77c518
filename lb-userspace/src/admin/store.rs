//! The commands in force, as a file in the state directory.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Command, Name};
use crate::config::model::Admin;

/// In the state directory.
pub const FILE: &str = "backends.json";

#[derive(Debug, Error)]
pub enum ReadError {
    #[error("cannot read {}: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not as it was written: {source}", path.display())]
    Text {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    service: String,
    backend: SocketAddr,
    state: State,
    /// Seconds since the Unix epoch.
    since: u64,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Active,
    Drain,
    Disabled,
}

/// What [`text`] gave, from the file in `folder`; nothing if there is none.
///
/// # Errors
/// The file can't be read or understood.
pub fn read(folder: &Path) -> Result<BTreeMap<Name, Command>, ReadError> {
    let path = folder.join(FILE);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(ReadError::File { path, source }),
        Ok(text) => text,
    };
    let entries: Vec<Entry> =
        serde_json::from_slice(&text).map_err(|source| ReadError::Text { path, source })?;
    Ok(entries.into_iter().map(Entry::into).collect())
}

/// The file's text.
#[must_use]
pub fn text(commands: &BTreeMap<Name, Command>) -> String {
    let entries: Vec<Entry> = commands.iter().map(Entry::from).collect();
    serde_json::to_string_pretty(&entries).expect("names, words and numbers are always JSON") + "\n"
}

impl From<(&Name, &Command)> for Entry {
    fn from((name, command): (&Name, &Command)) -> Self {
        Self {
            service: name.service.clone(),
            backend: name.backend,
            state: match command.state {
                Admin::Active => State::Active,
                Admin::Drain => State::Drain,
                Admin::Disabled => State::Disabled,
            },
            since: command.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            deadline: command.deadline.map(|deadline| deadline.as_secs()),
        }
    }
}

impl From<Entry> for (Name, Command) {
    fn from(entry: Entry) -> Self {
        let state = match entry.state {
            State::Active => Admin::Active,
            State::Drain => Admin::Drain,
            State::Disabled => Admin::Disabled,
        };
        // What no clock can show began long ago.
        let since = UNIX_EPOCH.checked_add(Duration::from_secs(entry.since));
        let command = Command {
            state,
            since: since.unwrap_or(SystemTime::UNIX_EPOCH),
            deadline: entry.deadline.map(Duration::from_secs),
        };
        (Name { service: entry.service, backend: entry.backend }, command)
    }
}
