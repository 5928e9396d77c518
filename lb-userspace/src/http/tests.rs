use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::*;

/// Says what it was asked.
async fn echo(request: Request) -> Response {
    match request.path.as_str() {
        "/gone" => Response::text(StatusCode::NOT_FOUND, "gone\n"),
        "/panic" => panic!("a handler's mistake"),
        "/slow" => std::future::pending().await,
        _ => {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            Response::json(StatusCode::OK, format!("{} {} {body}", request.method, request.path))
        }
    }
}

struct Served {
    socket: PathBuf,
    _directory: TempDir,
    _server: tokio::task::JoinHandle<Infallible>,
}

fn on_socket() -> Served {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    Served { socket, _directory: directory, _server: tokio::spawn(serve(listener, Limits::CONTROL, echo)) }
}

async fn on_tcp() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Limits::PAGE, echo));
    address
}

/// Sends bytes and reads all that comes back, until the server closes.
async fn raw(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer).await {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn method_path_and_body_reach_the_handler_and_its_answer_comes_back() {
    let served = on_socket();
    let answer =
        request_unix(&served.socket, Method::POST, "/apply?now", "/etc/file.yaml", PATIENCE).await.unwrap();
    assert_eq!(answer, Response::json(StatusCode::OK, "POST /apply /etc/file.yaml"));
    let gone = request_unix(&served.socket, Method::GET, "/gone", "", PATIENCE).await.unwrap();
    assert_eq!(gone, Response::text(StatusCode::NOT_FOUND, "gone\n"));
}

#[tokio::test]
async fn any_http_client_can_ask_over_tcp() {
    let answer = raw(on_tcp().await, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nGET /metrics "), "{answer}");
}

#[tokio::test]
async fn an_answer_longer_than_a_socket_buffer_arrives_whole() {
    let served = on_socket();
    let long = "x".repeat(1_000_000);
    let answer = request_unix(&served.socket, Method::PUT, "/", long.clone(), PATIENCE).await.unwrap();
    assert_eq!(answer.body, format!("PUT / {long}"));
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4096\r\n\r\n";
    let answer = raw(on_tcp().await, format!("{request}{}", "x".repeat(1100)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn the_largest_configuration_fits_the_control_socket_however_json_writes_it() {
    let served = on_socket();
    let text = serde_json::to_string(&"\u{1}".repeat(1 << 20)).unwrap();
    let answer = request_unix(&served.socket, Method::POST, "/", text.clone(), PATIENCE).await.unwrap();
    assert_eq!(answer.body.len(), "POST / ".len() + text.len());
}

#[tokio::test]
async fn what_is_not_http_and_a_handler_that_panics_end_only_their_own_connection() {
    let address = on_tcp().await;
    let refused = raw(address, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    assert_eq!(raw(address, b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
    assert!(raw(address, b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n").await.ends_with("GET /after "));
}

#[tokio::test]
async fn silent_clients_are_closed_and_then_others_are_served() {
    let address = on_tcp().await;
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let answer = raw(address, b"GET /served HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await.unwrap();
    assert!(answer.ends_with("GET /served "), "{answer}");
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_answered_for() {
    let (client, server) = tokio::io::duplex(4096);
    tokio::time::pause();
    tokio::spawn(server::connection(server, Limits::PAGE, echo));
    let (mut reader, mut writer) = tokio::io::split(client);
    writer.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("not finished within 20 s\n"), "{answer}");
}

#[tokio::test]
async fn on_the_control_socket_the_answer_waits_until_the_work_is_done() {
    let (client, server) = tokio::io::duplex(4096);
    tokio::time::pause();
    tokio::spawn(server::connection(server, Limits::CONTROL, |_| async {
        tokio::time::sleep(Duration::from_secs(300)).await;
        Response::text(StatusCode::OK, "applied\n")
    }));
    let (mut reader, mut writer) = tokio::io::split(client);
    writer.write_all(b"POST /apply HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("applied\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_closed() {
    let (client, server) = tokio::io::duplex(64);
    tokio::time::pause();
    let connection = tokio::spawn(server::connection(server, Limits::CONTROL, |_| async {
        Response::text(StatusCode::OK, "x".repeat(100_000))
    }));
    let (_reader, mut writer) = tokio::io::split(client);
    writer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_client_says_what_to_do_when_the_daemon_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let ask = || request_unix(&socket, Method::GET, "/status", "", PATIENCE);

    let error = ask().await.unwrap_err().to_string();
    assert!(error.contains("no socket at") && error.contains("`systemctl start evenkeel`"), "{error}");

    drop(UnixListener::bind(&socket).unwrap());
    let error = ask().await.unwrap_err().to_string();
    assert!(error.contains("nobody listens on") && error.contains("`systemctl start evenkeel`"), "{error}");
}

#[tokio::test]
async fn the_client_survives_a_socket_that_closes_or_speaks_something_else() {
    let directory = tempfile::tempdir().unwrap();
    for answer in ["", "220 mail ready\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"] {
        let socket = directory.path().join(format!("{}.sock", answer.len()));
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let error = request_unix(&socket, Method::GET, "/status", "", PATIENCE).await.unwrap_err();
        assert!(matches!(error, ClientError::BrokenOff { .. }), "{answer:?}: {error}");
    }
}
