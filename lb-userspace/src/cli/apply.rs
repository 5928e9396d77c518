//! `evenkeel apply`: has the running daemon take a configuration, all of it or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use thiserror::Error;

use crate::daemon::control::{Applied, Apply};
use crate::http::{ClientError, LONG_PATIENCE, Method, StatusCode, request_unix};

#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Configuration to apply; without it the daemon reads its own file again
    pub file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Whether the configuration is in force now.
    ok: bool,
    /// What is in force now, or why nothing changed, line by line.
    lines: Vec<String>,
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
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    #[error("the daemon answered {status}: {body}")]
    Answer { status: StatusCode, body: String },
}

impl From<Result<Vec<String>, ApplyError>> for Outcome {
    fn from(applied: Result<Vec<String>, ApplyError>) -> Self {
        match applied {
            Ok(lines) => Self { ok: true, lines },
            Err(ApplyError::Refused(lines)) => Self { ok: false, lines },
            Err(error) => Self { ok: false, lines: vec![error.to_string()] },
        }
    }
}

/// Prints how it ended: as JSON on the standard output, or as text, mistakes on the standard error.
///
/// # Errors
/// As text only: the file can't be read, the daemon can't be asked, or it refuses. Then what was in force stays, unless
/// the error says otherwise. As JSON they are printed, and the exit code is 1.
pub async fn run(args: &ApplyArgs, socket: &Path) -> Result<ExitCode, ApplyError> {
    let applied = ask(args, socket).await;
    if !args.json {
        println!("{}", applied?.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = Outcome::from(applied);
    println!("{:#}", serde_json::json!(outcome));
    Ok(if outcome.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(args: &ApplyArgs, socket: &Path) -> Result<Vec<String>, ApplyError> {
    let body = args.file.as_deref().map(read).transpose()?.unwrap_or_default();
    let response = request_unix(socket, Method::POST, "/apply", body, LONG_PATIENCE).await?;
    let lines = serde_json::from_slice(&response.body).map(|Applied { lines }| lines);
    match (response.status, lines) {
        (StatusCode::OK, Ok(mut lines)) => {
            if let Some(file) = &args.file {
                let note = "a restart, SIGHUP or save reads the daemon's own file again";
                lines.push(format!("note: if {} is not that file, {note}", file.display()));
            }
            Ok(lines)
        }
        (StatusCode::UNPROCESSABLE_ENTITY, Ok(lines)) => Err(ApplyError::Refused(lines)),
        (status, _) => {
            let body = String::from_utf8_lossy(&response.body).trim().to_owned();
            Err(ApplyError::Answer { status, body })
        }
    }
}

fn read(file: &Path) -> Result<String, ApplyError> {
    let failed = |source| ApplyError::Read { file: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(failed)?;
    let apply = Apply { file: file.display().to_string(), text };
    serde_json::to_string(&apply).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::http::{Limits, Response, serve};

    async fn outcome(name: &str, answer: Response) -> serde_json::Value {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(serve(listener, Limits::CONTROL, move |_| std::future::ready(answer.clone())));
        let args = ApplyArgs { file: None, json: true };
        serde_json::json!(Outcome::from(ask(&args, &socket).await))
    }

    #[tokio::test]
    async fn as_json_it_says_whether_it_was_applied_and_every_line_of_why_not() {
        let applied = Response::json(StatusCode::OK, r#"{"lines":["a.yaml: applied"]}"#);
        let applied = outcome("applied", applied).await;
        assert_eq!(applied, serde_json::json!({ "ok": true, "lines": ["a.yaml: applied"] }));
        let refused = Response::json(StatusCode::UNPROCESSABLE_ENTITY, r#"{"lines":["a:1:1: b","c"]}"#);
        let refused = outcome("refused", refused).await;
        assert_eq!(refused, serde_json::json!({ "ok": false, "lines": ["a:1:1: b", "c"] }));
        let busy = outcome("busy", Response::text(StatusCode::SERVICE_UNAVAILABLE, "busy\n")).await;
        let words = "the daemon answered 503 Service Unavailable: busy";
        assert_eq!(busy, serde_json::json!({ "ok": false, "lines": [words] }));
    }
}
