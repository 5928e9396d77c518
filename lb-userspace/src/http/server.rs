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
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::{Request, Response, StatusCode};

/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 64;
/// For the request line and the headers.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For the body of the request and its handler.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// For a whole connection: ends a client that does not read its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_LIMIT: usize = 1024 * 1024;
const HEAD_LIMIT: usize = 16 * 1024;
/// After a failed accept, which is nearly always a lack of file descriptors that only time mends.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

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
/// A handler that takes longer than 20 s, or whose client leaves, is dropped at its next await.
pub async fn serve<L, H, F>(listener: L, handler: H) -> Infallible
where
    L: Listener,
    H: Fn(Request) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok(stream) => { connections.spawn(connection(stream, handler.clone())); }
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

pub(super) async fn connection<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request) -> F + Clone,
    F: Future<Output = Response>,
{
    let service = service_fn(move |request| {
        let answering = tokio::time::timeout(ANSWER_TIMEOUT, answer(request, handler.clone()));
        async {
            let response = answering.await.unwrap_or_else(|_| {
                let seconds = ANSWER_TIMEOUT.as_secs();
                Response::text(StatusCode::SERVICE_UNAVAILABLE, format!("not finished within {seconds} s\n"))
            });
            Ok::<_, Infallible>(emit(response))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection ended early"),
        Err(_) => debug!("a connection was closed: its client did not read the answer"),
    }
}

async fn answer<H, F>(request: hyper::Request<Incoming>, handler: H) -> Response
where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("the request is longer than {BODY_LIMIT} bytes\n");
            return Response::text(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        Err(error) => return Response::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    handler(Request { method: head.method, path: head.uri.path().to_owned(), body }).await
}

fn emit(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut emitted = hyper::Response::new(Full::new(response.body));
    *emitted.status_mut() = response.status;
    if let Ok(content_type) = HeaderValue::from_str(&response.content_type) {
        emitted.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    emitted
}
