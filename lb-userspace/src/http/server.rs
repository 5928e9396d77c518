//! The server: bounded in connections, time and memory, whoever connects.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::{Request, Response, StatusCode};

/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 64;
/// For the request line and the headers.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For the body of the request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// For reading the answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_LIMIT: usize = 16 * 1024;
/// After a failed accept, which is nearly always a lack of file descriptors that only time mends.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a client may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// For the handler; without it the handler alone says when it is done.
    pub handler: Option<Duration>,
}

impl Limits {
    /// Anybody may ask for a page.
    pub const PAGE: Self = Self { body: 1024, handler: Some(Duration::from_secs(20)) };
    /// Root asks. A configuration of 1 MiB is up to six times as long as JSON; and what the daemon has begun it ends,
    /// so that an answer in between would say nothing.
    pub const CONTROL: Self = Self { body: 8 * 1024 * 1024, handler: None };
}

/// What connections come from.
pub trait Listener: Send {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Answers every request by `handler` until the future is dropped, which ends the open connections too.
///
/// A handler that takes longer than its limit, or whose client leaves, is dropped at its next await.
pub async fn serve<L, H, F>(listener: L, limits: Limits, handler: H) -> Infallible
where
    L: Listener,
    H: Fn(Request) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok(stream) => { connections.spawn(connection(stream, limits, handler.clone())); }
                Err(error) => {
                    warn!(%error, "cannot accept a connection; trying again in {} s", ACCEPT_PAUSE.as_secs());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                warn!(%error, "a request handler failed");
            },
        }
    }
}

pub(super) async fn connection<S, H, F>(stream: S, limits: Limits, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request) -> F + Clone,
    F: Future<Output = Response>,
{
    let answered = &Notify::new();
    let service = service_fn(move |request| {
        let answering = answer(request, limits, handler.clone());
        async move {
            let response = answering.await;
            answered.notify_one();
            Ok::<_, Infallible>(emit(response))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let unread = async {
        answered.notified().await;
        tokio::time::sleep(READ_TIMEOUT).await;
    };
    tokio::select! {
        served = serving => if let Err(error) = served {
            debug!(%error, "a connection ended early");
        },
        () = unread => debug!("a connection was closed: its client did not read the answer"),
    }
}

async fn answer<H, F>(request: hyper::Request<Incoming>, limits: Limits, handler: H) -> Response
where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limits.body).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("the request is longer than {} bytes\n", limits.body);
            return Response::text(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        Ok(Err(error)) => return Response::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(_) => {
            let text = format!("the request took longer than {} s\n", BODY_TIMEOUT.as_secs());
            return Response::text(StatusCode::REQUEST_TIMEOUT, text);
        }
    };
    let answering = handler(Request { method: head.method, path: head.uri.path().to_owned(), body });
    let Some(limit) = limits.handler else {
        return answering.await;
    };
    tokio::time::timeout(limit, answering).await.unwrap_or_else(|_| {
        let text = format!("not finished within {} s\n", limit.as_secs());
        Response::text(StatusCode::SERVICE_UNAVAILABLE, text)
    })
}

fn emit(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut emitted = hyper::Response::new(Full::new(response.body));
    *emitted.status_mut() = response.status;
    if let Ok(content_type) = HeaderValue::from_str(&response.content_type) {
        emitted.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    emitted
}
