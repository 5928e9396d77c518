//! `evenkeel apply`: has the running daemon take a configuration, all of it or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::daemon::control::{Applied, Apply};
use crate::http::{ClientError, Method, StatusCode, request_unix};

#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Configuration to apply; without it the daemon reads its own file again
    pub file: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub enum ApplyError {
    #[error("cannot read {}: {source}", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Ask(#[from] ClientError),
    /// Every mistake, a line each.
    #[error("{0}")]
    Refused(String),
    #[error("the daemon answered {status}: {body}")]
    Answer { status: StatusCode, body: String },
}

/// Returns what to print.
///
/// # Errors
/// The file can't be read, the daemon can't be asked, or it refuses: then what was in force stays.
pub async fn run(args: &ApplyArgs, socket: &Path) -> Result<String, ApplyError> {
    let body = args.file.as_deref().map(read).transpose()?.unwrap_or_default();
    let response = request_unix(socket, Method::POST, "/apply", body).await?;
    let text = String::from_utf8_lossy(&response.body).trim().to_owned();
    let lines = serde_json::from_slice(&response.body).map(|Applied { lines }| lines.join("\n"));
    match (response.status, lines) {
        (StatusCode::OK, Ok(mut lines)) => {
            if let Some(file) = &args.file {
                let note = "a restart, SIGHUP or save reads the daemon's own file again";
                lines.push_str(&format!("\nnote: if {} is not that file, {note}", file.display()));
            }
            Ok(lines)
        }
        (StatusCode::UNPROCESSABLE_ENTITY, Ok(lines)) => Err(ApplyError::Refused(lines)),
        (status, _) => Err(ApplyError::Answer { status, body: text }),
    }
}

fn read(file: &Path) -> Result<String, ApplyError> {
    let failed = |source| ApplyError::Read { file: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(failed)?;
    let apply = Apply { file: file.display().to_string(), text };
    serde_json::to_string(&apply).map_err(|error| failed(error.into()))
}
