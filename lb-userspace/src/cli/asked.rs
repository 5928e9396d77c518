//! What a command asks of the daemon, and how it prints what came of it.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use thiserror::Error;

use crate::daemon::control::Applied;
use crate::http::{ClientError, LONG_PATIENCE, Method, StatusCode, request_unix};

/// What `--json` prints.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    ok: bool,
    /// What is so now, or why nothing changed, line by line.
    lines: Vec<String>,
}

#[derive(Debug, Error)]
pub enum AskError {
    #[error(transparent)]
    Ask(#[from] ClientError),
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    #[error("the daemon answered {status}: {body}")]
    Answer { status: StatusCode, body: String },
}

/// Posts a request and returns the lines that the daemon answers when it did what was asked.
pub(super) async fn ask(path: &str, body: String, socket: &Path) -> Result<Vec<String>, AskError> {
    let response = request_unix(socket, Method::POST, path, body, LONG_PATIENCE).await?;
    match (response.status, serde_json::from_slice(&response.body)) {
        (StatusCode::OK, Ok(Applied { lines })) => Ok(lines),
        (StatusCode::UNPROCESSABLE_ENTITY, Ok(Applied { lines })) => Err(AskError::Refused(lines)),
        (status, _) => {
            let body = String::from_utf8_lossy(&response.body).trim().to_owned();
            Err(AskError::Answer { status, body })
        }
    }
}

/// As text on the standard output, an error for the caller to print; or all of it as JSON.
pub(super) fn print(answer: Result<Vec<String>, AskError>, json: bool) -> Result<ExitCode, AskError> {
    if !json {
        println!("{}", answer?.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = match answer {
        Ok(lines) => Outcome { ok: true, lines },
        Err(AskError::Refused(lines)) => Outcome { ok: false, lines },
        Err(error) => Outcome { ok: false, lines: vec![error.to_string()] },
    };
    println!("{:#}", serde_json::json!(outcome));
    Ok(if outcome.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::http::{Limits, Response, serve};

    #[tokio::test]
    async fn what_the_daemon_says_is_an_answer_or_a_refusal() {
        let directory = tempfile::tempdir().unwrap();
        let lines = r#"{"lines":["web/10.0.0.11:80: draining"]}"#;
        for (name, answer) in [
            ("done", Response::json(StatusCode::OK, lines)),
            ("refused", Response::json(StatusCode::UNPROCESSABLE_ENTITY, lines)),
            ("busy", Response::text(StatusCode::SERVICE_UNAVAILABLE, "busy\n")),
        ] {
            let socket = directory.path().join(name);
            let listener = UnixListener::bind(&socket).unwrap();
            tokio::spawn(serve(listener, Limits::CONTROL, move |_| std::future::ready(answer.clone())));
            match (name, ask("/backends", "{}".to_owned(), &socket).await) {
                ("done", Ok(lines)) | ("refused", Err(AskError::Refused(lines))) => {
                    assert_eq!(lines, ["web/10.0.0.11:80: draining"]);
                }
                ("busy", Err(AskError::Answer { status: StatusCode::SERVICE_UNAVAILABLE, .. })) => {}
                (_, other) => panic!("{name}: {other:?}"),
            }
        }
    }
}
