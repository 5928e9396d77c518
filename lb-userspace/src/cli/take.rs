//! `evenkeel drain`, `undrain` and `disable`: takes a backend out gently, back in, or out at once.

use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::config::parse_duration;
use crate::daemon::control::{Applied, Take, Wanted};
use crate::http::{ClientError, LONG_PATIENCE, Method, StatusCode, request_unix};

/// Names a backend.
#[derive(Debug, clap::Args)]
pub struct BackendArgs {
    /// The backend as in the configuration: ADDRESS:PORT in every service that has it, or SERVICE/ADDRESS:PORT
    pub backend: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub backend: BackendArgs,
    /// How long its flows may go on, such as 5m, instead of what `drain` of its service says
    #[arg(long, value_parser = deadline)]
    pub deadline: Option<Duration>,
}

/// As the configuration has it for `drain`.
const DEADLINES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

fn deadline(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(deadline) if DEADLINES.contains(&deadline) && deadline.subsec_nanos() == 0 => Ok(deadline),
        Some(_) => Err("write whole seconds, 1s to 7d".to_owned()),
        None => Err("write a number and its unit `s`, `m`, `h` or `d`, such as `5m`".to_owned()),
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Outcome {
    ok: bool,
    /// What each backend is now, or why nothing changed.
    lines: Vec<String>,
}

#[derive(Debug, Error)]
pub enum TakeError {
    #[error(transparent)]
    Ask(#[from] ClientError),
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    #[error("the daemon answered {status}: {body}")]
    Answer { status: StatusCode, body: String },
}

/// Prints how it ended, as text or as JSON.
///
/// # Errors
/// As text only: the daemon can't be asked, or has no such backend. As JSON they are printed, and the exit code is 1.
pub async fn run(
    args: &BackendArgs,
    state: Wanted,
    deadline: Option<Duration>,
    socket: &Path,
) -> Result<ExitCode, TakeError> {
    let take = Take {
        backend: args.backend.clone(),
        state,
        deadline_seconds: deadline.map(|deadline| deadline.as_secs()),
    };
    let taken = ask(&take, socket).await;
    if !args.json {
        println!("{}", taken?.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = match taken {
        Ok(lines) => Outcome { ok: true, lines },
        Err(TakeError::Refused(lines)) => Outcome { ok: false, lines },
        Err(error) => Outcome { ok: false, lines: vec![error.to_string()] },
    };
    println!("{:#}", serde_json::json!(outcome));
    Ok(if outcome.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(take: &Take, socket: &Path) -> Result<Vec<String>, TakeError> {
    let body = serde_json::json!(take).to_string();
    let response = request_unix(socket, Method::POST, "/backends", body, LONG_PATIENCE).await?;
    match (response.status, serde_json::from_slice(&response.body)) {
        (StatusCode::OK, Ok(Applied { lines })) => Ok(lines),
        (StatusCode::UNPROCESSABLE_ENTITY, Ok(Applied { lines })) => Err(TakeError::Refused(lines)),
        (status, _) => {
            let body = String::from_utf8_lossy(&response.body).trim().to_owned();
            Err(TakeError::Answer { status, body })
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::http::{Limits, Response, serve};

    #[test]
    fn a_deadline_is_written_as_in_the_configuration() {
        assert_eq!(deadline("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["5", "0s", "8d", "100ms", "soon"] {
            assert!(deadline(wrong).is_err(), "{wrong}");
        }
    }

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
            let take =
                Take { backend: "10.0.0.11:80".to_owned(), state: Wanted::Drain, deadline_seconds: Some(1) };
            match (name, ask(&take, &socket).await) {
                ("done", Ok(lines)) | ("refused", Err(TakeError::Refused(lines))) => {
                    assert_eq!(lines, ["web/10.0.0.11:80: draining"]);
                }
                ("busy", Err(TakeError::Answer { status: StatusCode::SERVICE_UNAVAILABLE, .. })) => {}
                (_, other) => panic!("{name}: {other:?}"),
            }
        }
    }
}
