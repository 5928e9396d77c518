//! One probe of one backend.

mod http;
mod tcp;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::config::model::CheckKind;

/// Why a probe failed, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("connection refused")]
    Refused,
    #[error("no answer within {}", seconds(*.0))]
    Timeout(Duration),
    /// What the kernel said instead of a connection: no route, host unreachable, …
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("connection closed without an answer")]
    Closed,
    /// After it was made: reset, …
    #[error("connection broke: {0}")]
    Broken(String),
    #[error("HTTP {got}, expected {expected}")]
    Status { got: u16, expected: u16 },
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
    #[error("the check cannot be asked: {0}")]
    Unaskable(String),
    /// The fault is here (file descriptors, memory, ports), not with the backend.
    #[error("not checked, this node failed: {0}")]
    Local(String),
}

impl ProbeError {
    /// The failure says nothing about the backend.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    fn from_connect(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL) => {
                Self::Local(text(error))
            }
            _ => Self::Connect(text(error)),
        }
    }
}

/// Probes `target` once.
///
/// `timeout` bounds the whole probe, so a server that answers byte by byte does not escape it, and what is read is
/// bounded too. Cancel safe: nothing stays behind when the future is dropped.
///
/// # Errors
/// Why the backend does not count as serving.
pub async fn probe(kind: &CheckKind, target: SocketAddr, timeout: Duration) -> Result<(), ProbeError> {
    let probing = async {
        match kind {
            CheckKind::Tcp => tcp::probe(target).await,
            CheckKind::Http { path, status, host } => {
                http::probe(target, path, *status, host.as_deref()).await
            }
        }
    };
    tokio::time::timeout(timeout, probing).await.unwrap_or(Err(ProbeError::Timeout(timeout)))
}

async fn connect(target: SocketAddr) -> Result<TcpStream, ProbeError> {
    TcpStream::connect(target).await.map_err(|error| ProbeError::from_connect(&error))
}

/// The error without Rust's "(os error N)".
fn text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_lowercase()
}

fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
