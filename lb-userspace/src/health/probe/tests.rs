//! Probes against real servers on the loopback.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Long enough for the slowest machine; a probe that must not run into it asserts so.
const GENEROUS: Duration = Duration::from_secs(30);

fn http(path: &str, status: u16) -> CheckKind {
    CheckKind::Http { path: path.to_owned(), status, host: None }
}

/// A server that hands every connection to `serve`, until the test's runtime ends.
async fn server<F, S>(serve: S) -> SocketAddr
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A server that reads a request, answers these bytes and closes.
async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = Arc::new(answer.into());
    server(move |mut stream| {
        let answer = answer.clone();
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
        }
    })
    .await
}

/// An address where nobody listens.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn ask(target: SocketAddr, kind: &CheckKind) -> Result<(), ProbeError> {
    probe(kind, target, GENEROUS).await
}

#[tokio::test]
async fn tcp_passes_where_a_connection_is_accepted_and_ends_it_by_fin() {
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let target = server(move |mut stream| {
        let ended = ended.clone();
        async move { ended.send(stream.read(&mut [0; 1]).await.unwrap()).await.unwrap() }
    })
    .await;
    assert_eq!(ask(target, &CheckKind::Tcp).await, Ok(()));
    assert_eq!(end.recv().await, Some(0), "an orderly end of file, not a reset");
}

#[tokio::test]
async fn a_refused_connection_is_named_for_either_kind() {
    let target = closed_port().await;
    assert_eq!(ask(target, &CheckKind::Tcp).await, Err(ProbeError::Refused));
    assert_eq!(ask(target, &http("/", 200)).await, Err(ProbeError::Refused));
}

#[tokio::test]
async fn http_sends_path_host_and_who_asks() {
    let (heads, mut head) = tokio::sync::mpsc::channel(2);
    let target = server(move |mut stream| {
        let heads = heads.clone();
        async move {
            heads.send(read_head(&mut stream).await).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    assert_eq!(ask(target, &http("/healthz?deep=1", 200)).await, Ok(()));
    assert_eq!(
        head.recv().await.unwrap(),
        format!(
            "GET /healthz?deep=1 HTTP/1.1\r\nhost: {target}\r\nuser-agent: evenkeel\r\nconnection: close\r\n\r\n"
        )
    );
    let named =
        CheckKind::Http { path: "/".to_owned(), status: 200, host: Some("www.example.com".to_owned()) };
    assert_eq!(ask(target, &named).await, Ok(()));
    assert!(head.recv().await.unwrap().contains("\r\nhost: www.example.com\r\n"));
}

#[tokio::test]
async fn http_compares_the_status_and_follows_no_redirect() {
    let broken = answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    let error = ask(broken, &http("/", 200)).await.unwrap_err();
    assert_eq!(error.to_string(), "HTTP 503, expected 200");

    let moved = answering("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(ask(moved, &http("/", 200)).await, Err(ProbeError::Status { got: 302, expected: 200 }));
    assert_eq!(ask(moved, &http("/", 302)).await, Ok(()));
}

#[tokio::test]
async fn http_needs_no_body() {
    let endless = answering("HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\nonly this").await;
    assert_eq!(ask(endless, &http("/", 200)).await, Ok(()));
}

#[tokio::test]
async fn http_names_a_server_that_closes_or_speaks_something_else() {
    let mute = answering("").await;
    assert_eq!(ask(mute, &http("/", 200)).await, Err(ProbeError::Closed));
    let cut = answering("HTTP/1.1 200 OK\r\ncontent-le").await;
    assert_eq!(ask(cut, &http("/", 200)).await, Err(ProbeError::Closed));
    let ssh = answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    assert!(matches!(ask(ssh, &http("/", 200)).await, Err(ProbeError::NotHttp(_))));
}

#[tokio::test]
async fn an_endless_head_is_refused_before_it_fills_memory() {
    let target = server(|mut stream| async move {
        read_head(&mut stream).await;
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while sent.is_ok() {
            sent = stream.write_all(&[b'a'; 4096]).await;
        }
    })
    .await;
    let error = ask(target, &http("/", 200)).await.unwrap_err();
    assert_eq!(error.to_string(), "the answer is not HTTP: its head is longer than 64 KiB");
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_fails_at_the_timeout() {
    let target = server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let timeout = Duration::from_millis(50);
    let error = probe(&http("/", 200), target, timeout).await.unwrap_err();
    assert_eq!(error.to_string(), "no answer within 50 ms");
}

#[tokio::test]
async fn a_server_that_drips_its_answer_does_not_escape_the_timeout() {
    let target = server(|mut stream| async move {
        read_head(&mut stream).await;
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while sent.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            sent = stream.write_all(b"a").await;
        }
    })
    .await;
    let started = Instant::now();
    let timeout = Duration::from_millis(200);
    assert_eq!(probe(&http("/", 200), target, timeout).await, Err(ProbeError::Timeout(timeout)));
    assert!(started.elapsed() < GENEROUS);
}

#[tokio::test]
async fn a_check_that_cannot_be_asked_says_so_without_connecting() {
    for path in ["healthz", "/a b", "/a\r\nx: y"] {
        let error = ask(closed_port().await, &http(path, 200)).await.unwrap_err();
        assert!(matches!(error, ProbeError::Unaskable(_)), "{path:?}: {error}");
    }
    let host = CheckKind::Http { path: "/".to_owned(), status: 200, host: Some("a\nb".to_owned()) };
    assert!(matches!(ask(closed_port().await, &host).await, Err(ProbeError::Unaskable(_))));
}

#[test]
fn a_lack_of_descriptors_is_not_blamed_on_the_backend() {
    let error = ProbeError::from_connect(&io::Error::from_raw_os_error(libc::EMFILE));
    assert!(error.is_local());
    assert_eq!(error.to_string(), "not checked, this node failed: too many open files");
    let unreachable = ProbeError::from_connect(&io::Error::from_raw_os_error(libc::EHOSTUNREACH));
    assert_eq!(unreachable.to_string(), "cannot connect: no route to host");
}

#[test]
fn a_timeout_is_written_as_it_was_configured() {
    assert_eq!(ProbeError::Timeout(Duration::from_secs(1)).to_string(), "no answer within 1 s");
    assert_eq!(ProbeError::Timeout(Duration::from_millis(1500)).to_string(), "no answer within 1.5 s");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_answer_makes_a_probe_panic_or_hang(
        start in prop::sample::select(vec!["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let target = answering([start.as_bytes(), &rest].concat()).await;
            let result = ask(target, &http("/", 200)).await;
            assert_ne!(result, Err(ProbeError::Timeout(GENEROUS)));
        });
    }
}
