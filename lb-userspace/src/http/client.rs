//! The client of the control socket.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{Method, Response};

/// For what the daemon answers at once, if it is not applying a configuration.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// For what it has to do first. It ends what it has begun, and has no limit of its own.
pub const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// A status with tens of thousands of backends.
const RESPONSE_LIMIT: usize = 64 * 1024 * 1024;

/// Why the daemon could not be asked, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("is the daemon running? no socket at {}: start it by `systemctl start evenkeel`", .0.display())]
    NoSocket(PathBuf),
    #[error(
        "is the daemon running? nobody listens on {}: start it by `systemctl start evenkeel`",
        .0.display()
    )]
    NobodyListens(PathBuf),
    #[error("permission denied on {}: run this command as root", .0.display())]
    Denied(PathBuf),
    #[error("cannot connect to {}: {source}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("cannot ask for `{path}`: {source}")]
    BadRequest { path: String, source: hyper::http::Error },
    #[error("the daemon broke off: {source}; see what it says by `journalctl -u evenkeel` and ask again")]
    BrokenOff { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the answer is longer than {} MiB: is {} evenkeel's socket?", RESPONSE_LIMIT >> 20, .0.display())]
    TooLong(PathBuf),
    #[error(
        "the daemon did not answer within {} s, and may still do what it was asked: see what it does by \
         `journalctl -u evenkeel`",
        .0.as_secs()
    )]
    Timeout(Duration),
}

/// Asks the daemon over its control socket, for as long as `patience`. A response of any status is `Ok`.
///
/// # Errors
/// When there is no response: the daemon is not there, may not be asked, or broke off.
pub async fn request_unix(
    socket: &Path,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
    patience: Duration,
) -> Result<Response, ClientError> {
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .body(Full::new(body.into()))
        .map_err(|source| ClientError::BadRequest { path: path.to_owned(), source })?;
    let asking = tokio::time::timeout(patience, ask(socket, request));
    asking.await.unwrap_or(Err(ClientError::Timeout(patience)))
}

/// Runs `exchange` and the connection it needs to its end; nothing stays behind when the future is dropped.
pub(crate) async fn drive<C: Future, E: Future>(connection: C, exchange: E) -> E::Output {
    let mut exchange = pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // Ends too: it has what the connection read, or learns that the connection is gone.
        _ = connection => exchange.await,
    }
}

async fn ask(socket: &Path, request: hyper::Request<Full<Bytes>>) -> Result<Response, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| from_connect(socket, source))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken_off)?;
    drive(connection, async {
        let (head, body) = sender.send_request(request).await.map_err(broken_off)?.into_parts();
        let body = Limited::new(body, RESPONSE_LIMIT).collect().await.map_err(|source| {
            if source.is::<LengthLimitError>() {
                ClientError::TooLong(socket.to_owned())
            } else {
                ClientError::BrokenOff { source }
            }
        })?;
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok(Response::new(head.status, content_type.unwrap_or_default(), body.to_bytes()))
    })
    .await
}

fn from_connect(socket: &Path, source: io::Error) -> ClientError {
    let socket = socket.to_owned();
    #[expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]
    match source.kind() {
        io::ErrorKind::NotFound => ClientError::NoSocket(socket),
        io::ErrorKind::ConnectionRefused => ClientError::NobodyListens(socket),
        io::ErrorKind::PermissionDenied => ClientError::Denied(socket),
        _ => ClientError::Connect { socket, source },
    }
}

fn broken_off(source: hyper::Error) -> ClientError {
    ClientError::BrokenOff { source: source.into() }
}
