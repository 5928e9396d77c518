//! `GET path` is answered with the status.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;

use super::{ProbeError, connect, text};
use crate::http::drive;

/// What is held of an answer: a longer head is refused, a body is not read.
const READ_LIMIT: usize = 64 * 1024;

/// A redirect is an answer like any other and is not followed: the check is about this backend.
pub(super) async fn probe(
    target: SocketAddr,
    path: &str,
    expected: u16,
    host: Option<&str>,
) -> Result<(), ProbeError> {
    let request = request(target, path, host)?;
    let stream = connect(target).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(READ_LIMIT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| from_exchange(&error))?;
    let response =
        drive(connection, sender.send_request(request)).await.map_err(|error| from_exchange(&error))?;
    match response.status().as_u16() {
        got if got == expected => Ok(()),
        got => Err(ProbeError::Status { got, expected }),
    }
}

fn request(target: SocketAddr, path: &str, host: Option<&str>) -> Result<Request<Empty<Bytes>>, ProbeError> {
    if !path.starts_with('/') {
        return Err(ProbeError::Unaskable(format!("the path {path:?} does not start with `/`")));
    }
    let path_and_query = path
        .parse::<PathAndQuery>()
        .map_err(|error| ProbeError::Unaskable(format!("the path {path:?}: {error}")))?;
    // RFC 9110 section 7.2: the default port is left out.
    let target_host = if target.port() == 80 { bracketed(target) } else { target.to_string() };
    let host = host.unwrap_or(&target_host);
    Request::get(Uri::from(path_and_query))
        .header(HOST, host)
        .header(USER_AGENT, "evenkeel")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| ProbeError::Unaskable(format!("the host {host:?}: {error}")))
}

/// The address as it stands in a URL.
fn bracketed(target: SocketAddr) -> String {
    match target {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

fn from_exchange(error: &hyper::Error) -> ProbeError {
    if error.is_parse_too_large() {
        return ProbeError::NotHttp(format!("its head is longer than {} KiB", READ_LIMIT / 1024));
    }
    if error.is_parse() {
        return ProbeError::NotHttp(error.source().map_or_else(|| error.to_string(), ToString::to_string));
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(source) if source.kind() != io::ErrorKind::UnexpectedEof => ProbeError::Broken(text(source)),
        _ => ProbeError::Closed,
    }
}
