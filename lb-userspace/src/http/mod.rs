//! One small HTTP/1 server and client, for the metrics page (TCP) and the control socket (Unix), so that
//! `curl --unix-socket` works as well as the CLI. A connection carries one request.

mod client;
mod server;

pub(crate) use client::drive;
pub use client::{ClientError, LONG_PATIENCE, PATIENCE, request_unix};
pub use hyper::{Method, StatusCode};
pub use server::{Limits, Listener, serve};

use bytes::Bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// Without the query.
    pub path: String,
    pub body: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: StatusCode,
    pub content_type: String,
    pub body: Bytes,
}

impl Response {
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    pub fn json(status: StatusCode, body: impl Into<String>) -> Self {
        Self::new(status, "application/json", body.into())
    }

    pub fn new(status: StatusCode, content_type: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: content_type.into(), body: body.into() }
    }
}

#[cfg(test)]
mod tests;
