//! The control socket: HTTP over a Unix socket that only root can open.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`crate::status::Status`] as JSON |
//! | `GET /metrics` | the Prometheus page |
//! | `POST /backends` | a [`Take`] as JSON: takes backends out or back in |
//! | `POST /failover` | a [`GiveAway`] as JSON: gives a mastership away, or undoes that |
//! | `POST /apply` | body empty: reads the daemon's own file again; or an [`Apply`] as JSON |

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use crate::config::model::Admin;
use crate::http::{self, Limits, Method, Request, Response, StatusCode};
use crate::metrics;
use crate::status::Status;

/// A configuration to apply, as the command read it: the daemon opens no file that a client names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    pub file: String,
    pub text: String,
}

/// Backends to take out or back in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    /// `ADDRESS:PORT` in every service that has it, or `SERVICE/ADDRESS:PORT`.
    pub backend: String,
    pub state: Wanted,
    /// Time that flows have to end when it drains, instead of the service's; 1 to 604,800.
    #[serde(default)]
    pub deadline_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    Active,
    Drain,
    Disabled,
}

impl From<Wanted> for Admin {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Active => Self::Active,
            Wanted::Drain => Self::Drain,
            Wanted::Disabled => Self::Disabled,
        }
    }
}

/// A mastership to give away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveAway {
    /// Name of the instance.
    pub instance: String,
    /// Instead: lets the instance preempt again.
    #[serde(default)]
    pub undo: bool,
}

/// How an apply, or what else was asked for, ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What is in force now, or why nothing changed, line by line.
    pub lines: Vec<String>,
}

/// What a client wants of the daemon's task.
#[derive(Debug)]
pub(super) enum Command {
    Status(oneshot::Sender<Box<Status>>),
    Apply(Option<Apply>, oneshot::Sender<Result<Applied, Applied>>),
    Take(Take, oneshot::Sender<Result<Applied, Applied>>),
    GiveAway(GiveAway, oneshot::Sender<Result<Applied, Applied>>),
}

/// Requests waiting for the daemon's task; more are answered with 503.
pub(super) const WAITING: usize = 32;

#[derive(Debug, Error)]
#[error("cannot open {}: {source}", path.display())]
pub struct SocketError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Name of the control socket in the run directory.
pub const SOCKET: &str = "control.sock";

/// Serves the control socket until the runtime ends. The caller holds the run directory's lock, so a socket that is
/// there is a dead daemon's.
pub(super) fn serve(directory: &Path, commands: mpsc::Sender<Command>) -> Result<(), SocketError> {
    let path = directory.join(SOCKET);
    let failed = |source| SocketError { path: path.clone(), source };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    tokio::spawn(http::serve(listener, Limits::CONTROL, move |request| answer(request, commands.clone())));
    Ok(())
}

/// Serves the metrics page until the handle is aborted.
pub(super) fn serve_metrics(
    listener: TcpListener,
    commands: mpsc::Sender<Command>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let handler = move |request: Request| {
            let commands = commands.clone();
            async move {
                match (&request.method, request.path.as_str()) {
                    (&Method::GET, "/metrics") => metrics_page(&commands).await,
                    (&Method::GET, "/") => Response::text(StatusCode::OK, "Evenkeel: see /metrics\n"),
                    _ => Response::text(StatusCode::NOT_FOUND, "there is only GET /metrics here\n"),
                }
            }
        };
        match http::serve(listener, Limits::PAGE, handler).await {}
    })
}

async fn answer(request: Request, commands: mpsc::Sender<Command>) -> Response {
    match (&request.method, request.path.as_str()) {
        (&Method::GET, "/status") => match status(&commands).await {
            Some(status) => match serde_json::to_string(&*status) {
                Ok(json) => Response::json(StatusCode::OK, json),
                Err(error) => Response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            None => busy(),
        },
        (&Method::GET, "/metrics") => metrics_page(&commands).await,
        (&Method::POST, "/apply") => apply(&request.body, &commands).await,
        (&Method::POST, "/backends") => take(&request.body, &commands).await,
        (&Method::POST, "/failover") => match serde_json::from_slice(&request.body) {
            Ok(give_away) => ask(&commands, |answer| Command::GiveAway(give_away, answer)).await,
            Err(error) => {
                Response::text(StatusCode::BAD_REQUEST, format!("the body is no {{\"instance\"}}: {error}\n"))
            }
        },
        _ => Response::text(
            StatusCode::NOT_FOUND,
            "there are GET /status, GET /metrics, POST /apply, POST /backends and POST /failover here\n",
        ),
    }
}

async fn metrics_page(commands: &mpsc::Sender<Command>) -> Response {
    let Some(status) = status(commands).await else {
        return busy();
    };
    match metrics::render(&status) {
        Ok(page) => Response::new(StatusCode::OK, metrics::CONTENT_TYPE, page),
        Err(error) => Response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn status(commands: &mpsc::Sender<Command>) -> Option<Box<Status>> {
    let (sender, receiver) = oneshot::channel();
    commands.try_send(Command::Status(sender)).ok()?;
    receiver.await.ok()
}

async fn apply(body: &Bytes, commands: &mpsc::Sender<Command>) -> Response {
    let request = if body.is_empty() {
        None
    } else {
        match serde_json::from_slice(body) {
            Ok(apply) => Some(apply),
            Err(error) => {
                let text = format!("the body is neither empty nor {{\"file\", \"text\"}}: {error}\n");
                return Response::text(StatusCode::BAD_REQUEST, text);
            }
        }
    };
    ask(commands, |answer| Command::Apply(request, answer)).await
}

async fn take(body: &Bytes, commands: &mpsc::Sender<Command>) -> Response {
    const LONGEST: u64 = 7 * 24 * 3600;
    let take: Take = match serde_json::from_slice(body) {
        Ok(take) => take,
        Err(error) => {
            let text = format!("the body is no {{\"backend\", \"state\"}}: {error}\n");
            return Response::text(StatusCode::BAD_REQUEST, text);
        }
    };
    if take.deadline_seconds.is_some_and(|seconds| seconds == 0 || seconds > LONGEST) {
        return Response::text(StatusCode::BAD_REQUEST, format!("deadline_seconds is 1 to {LONGEST}\n"));
    }
    ask(commands, |answer| Command::Take(take, answer)).await
}

async fn ask(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<Result<Applied, Applied>>) -> Command,
) -> Response {
    let (sender, receiver) = oneshot::channel();
    if commands.try_send(command(sender)).is_err() {
        return busy();
    }
    let (status, applied) = match receiver.await {
        Ok(Ok(applied)) => (StatusCode::OK, applied),
        Ok(Err(refused)) => (StatusCode::UNPROCESSABLE_ENTITY, refused),
        Err(_) => return busy(),
    };
    match serde_json::to_string(&applied) {
        Ok(json) => Response::json(status, json),
        Err(error) => Response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn busy() -> Response {
    Response::text(StatusCode::SERVICE_UNAVAILABLE, "the daemon is busy or stopping; try again\n")
}
