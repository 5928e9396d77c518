//! `evenkeel status`: what the running daemon does and why, in words or as JSON.

mod text;

use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub use text::render;

use crate::http::{ClientError, Method, PATIENCE, StatusCode, request_unix};
use crate::status::Status;

#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error(transparent)]
    Ask(#[from] ClientError),
    #[error("the daemon answered {status}: {body}")]
    Refused { status: StatusCode, body: String },
    #[error(
        "cannot read the daemon's answer: {0}; it may be of another version than this command: restart it by \
         `systemctl restart evenkeel`, or see what it says by `evenkeel status --json`"
    )]
    OtherVersion(serde_json::Error),
    #[error("the daemon's answer is no JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("cannot write the status: {0}")]
    Write(io::Error),
}

/// Asks the daemon behind `socket` and prints its status to the standard output.
///
/// # Errors
/// When the daemon cannot be asked or understood; the text says what to do.
pub async fn run(socket: &Path, json: bool) -> Result<(), StatusError> {
    // A clock before 1970 makes every age 0.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let printed = ask(socket, json, now.as_secs_f64()).await?;
    match io::stdout().lock().write_all(printed.as_bytes()) {
        // `evenkeel status | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(StatusError::Write),
    }
}

async fn ask(socket: &Path, json: bool, now: f64) -> Result<String, StatusError> {
    let response = request_unix(socket, Method::GET, "/status", "", PATIENCE).await?;
    if response.status != StatusCode::OK {
        let body = String::from_utf8_lossy(&response.body).trim().to_owned();
        return Err(StatusError::Refused { status: response.status, body });
    }
    if json {
        return pretty(&response.body);
    }
    let status: Status = serde_json::from_slice(&response.body).map_err(StatusError::OtherVersion)?;
    Ok(render(&status, now))
}

/// Through no type of ours, so that a daemon of another version is shown whole.
fn pretty(body: &[u8]) -> Result<String, StatusError> {
    let value: serde_json::Value = serde_json::from_slice(body).map_err(StatusError::NotJson)?;
    Ok(format!("{value:#}\n"))
}

#[cfg(test)]
mod tests;
