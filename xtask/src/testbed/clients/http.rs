//! An HTTP/1.1 client that shows each failure: no retry, one deadline.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::Client;

/// Longer than any planned event takes, shorter than a person waits.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// Kept until it fails.
    Kept,
    /// One for each request.
    PerRequest,
}

/// Asks for `path`, by default with GET, and gives the body as the answer, without the white space around it.
#[derive(Debug)]
pub struct HttpClient {
    address: SocketAddr,
    path: String,
    /// To send by POST; GET if empty.
    upload: Vec<u8>,
    connections: Connections,
    open: Option<BufReader<TcpStream>>,
}

impl HttpClient {
    #[must_use]
    pub fn new(address: SocketAddr, path: &str, connections: Connections) -> Self {
        Self { address, path: path.to_owned(), upload: Vec::new(), connections, open: None }
    }

    /// Sends `upload` with each request, by POST.
    #[must_use]
    pub fn uploading(self, upload: Vec<u8>) -> Self {
        Self { upload, ..self }
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT).context("connect")?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }

    /// Asks on a connection of its own, and takes no more of the answer than its head: nothing ends before [`Download::finish`], as
    /// long as it does not fit into the buffers of both ends.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn begin(&self) -> Result<Download> {
        let mut stream = self.connect()?;
        let length = self.request(&mut stream)?;
        Ok(Download { stream, length })
    }

    /// Returns how long the body is that follows.
    fn request(&self, stream: &mut BufReader<TcpStream>) -> Result<usize> {
        let connection = match self.connections {
            Connections::Kept => "keep-alive",
            Connections::PerRequest => "close",
        };
        let method = if self.upload.is_empty() { "GET" } else { "POST" };
        let mut request = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\nContent-Length: {}\r\n\r\n",
            self.path,
            self.address,
            self.upload.len()
        )
        .into_bytes();
        request.extend_from_slice(&self.upload);
        stream.get_mut().write_all(&request).context("send")?;
        let mut line = String::new();
        stream.read_line(&mut line).context("receive")?;
        ensure!(!line.is_empty(), "closed without an answer");
        ensure!(line.split(' ').nth(1) == Some("200"), "answered {}", line.trim());
        body_length(stream)
    }
}

/// An answer of which the client has only taken the head.
#[derive(Debug)]
pub struct Download {
    stream: BufReader<TcpStream>,
    length: usize,
}

impl Download {
    /// Takes the body.
    ///
    /// # Errors
    /// The connection broke.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        read_body(&mut self.stream, self.length)
    }
}

fn read_body(stream: &mut BufReader<TcpStream>, length: usize) -> Result<Vec<u8>> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("receive")?;
    Ok(body)
}

impl Client for HttpClient {
    fn ask(&mut self) -> Result<String> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let length = self.request(&mut stream)?;
        let body = read_body(&mut stream, length)?;
        if self.connections == Connections::Kept {
            self.open = Some(stream);
        }
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }
}

fn body_length(stream: &mut BufReader<TcpStream>) -> Result<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).context("receive")?;
        ensure!(!line.is_empty(), "closed in the middle of an answer");
        if line == "\r\n" {
            return Ok(length);
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("content-length")?;
        }
    }
}
