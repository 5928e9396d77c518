//! MariaDB's own command line client.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::load::Client;
use crate::interrupt;
use crate::shell::capture;
use crate::testbed::Host;
use crate::testbed::servers::mariadb::{PASSWORD, USER};

pub const QUERY: &str = "SELECT name FROM shop.server;";

/// A connection for each query; the answer is the name of the server.
#[derive(Debug)]
pub struct MySqlClient {
    address: SocketAddr,
}

impl MySqlClient {
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }
}

impl Client for MySqlClient {
    fn ask(&mut self) -> Result<String> {
        let mut command = Command::new("mariadb");
        command.args(options(self.address)).args(["--execute", QUERY]);
        capture(&mut command).map(|answer| answer.trim().to_owned())
    }
}

/// One connection, kept open.
#[derive(Debug)]
pub struct MySqlSession {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl MySqlSession {
    /// # Errors
    /// The client cannot be started; whether it gets a connection shows at the first query.
    pub fn open(host: &Host, address: SocketAddr) -> Result<Self> {
        let mut command = host.command("mariadb");
        command.args(options(address)).args(["--unbuffered", "--skip-reconnect"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let _creating = interrupt::creating();
        let mut child = command.spawn().context("cannot run mariadb")?;
        let input = child.stdin.take().context("mariadb has no input")?;
        let output = BufReader::new(child.stdout.take().context("mariadb has no output")?);
        Ok(Self { child, input, output })
    }

    /// Asks for one value.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn query(&mut self, query: &str) -> Result<String> {
        writeln!(self.input, "{query}").context("mariadb has ended")?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read from mariadb")?;
        ensure!(!line.is_empty(), "mariadb has ended: its connection is broken");
        Ok(line.trim().to_owned())
    }
}

impl Drop for MySqlSession {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn options(address: SocketAddr) -> Vec<String> {
    let options =
        ["--no-defaults", "--batch", "--skip-column-names", "--connect-timeout=2"].map(str::to_owned);
    let place = [format!("--host={}", address.ip()), format!("--port={}", address.port())];
    let user = [format!("--user={USER}"), format!("--password={PASSWORD}")];
    options.into_iter().chain(place).chain(user).collect()
}
