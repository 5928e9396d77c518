//! What the system tests share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::testbed::clients::{Client as _, Connections, Download, HttpClient, Load, Report, UdpClient};
use xtask::testbed::data_centre::{DataCentre, Plan};
use xtask::testbed::dual_stack::{Arms, DualStack};
use xtask::testbed::servers::{Nginx, UdpNames};
use xtask::testbed::{Host, Node, Segment, TestBed};

pub(crate) const A_WHILE: Duration = Duration::from_secs(2);

pub(crate) const ONE_ARM_SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 80);
pub(crate) const ONE_ARM_UDP: &str = "192.0.2.10:53";

pub(crate) fn data_centre(plan: Plan) -> Result<DataCentre> {
    DataCentre::build(TestBed::for_test()?, plan, |_| {})
}

/// With two servers.
pub(crate) fn dual_stack(arms: Arms) -> Result<DualStack> {
    DualStack::build(TestBed::for_test()?, arms, 2)
}

/// Asks once for a path, on a connection of its own.
pub(crate) fn fetch(client: &Host, service: SocketAddr, path: &str) -> Result<String> {
    client.enter(|| HttpClient::new(service, path, Connections::PerRequest).ask())
}

/// Begins to download the longest file there is.
pub(crate) fn download(client: &Host, service: SocketAddr) -> Result<Download> {
    client.enter(|| HttpClient::new(service, "/huge", Connections::PerRequest).begin())
}

/// Opens a connection that is kept, and tells which server it is to.
pub(crate) fn connect(client: &Host, service: SocketAddr) -> Result<(HttpClient, String)> {
    client.enter(|| {
        let mut connection = HttpClient::new(service, "/", Connections::Kept);
        let server = connection.ask()?;
        Ok((connection, server))
    })
}

/// Opens connections until one is to this server.
pub(crate) fn connect_to(client: &Host, service: SocketAddr, server: &str) -> Result<HttpClient> {
    for _ in 0..100 {
        let (connection, answered) = connect(client, service)?;
        if answered == server {
            return Ok(connection);
        }
    }
    bail!("none of 100 connections is to {server}")
}

/// Packets that a node has counted under a reason.
pub(crate) fn counted(node: &Node, reason: &str) -> Result<u64> {
    let status = node.status()?;
    let found = status.packets.iter().find(|count| count.reason == reason);
    Ok(found.with_context(|| format!("there is no reason {reason}"))?.packets)
}

/// What became of the packets that a node has seen, by reason: for the text of a failure.
pub(crate) fn packets(node: &Node) -> String {
    let status = match node.status() {
        Ok(status) => status,
        Err(error) => return format!("{error:#}"),
    };
    let counts = status.packets.iter().filter(|count| count.packets > 0);
    counts.map(|count| format!("{} {}", count.packets, count.reason)).collect::<Vec<_>>().join(", ")
}

/// Clients that ask for `/` on a connection for each request.
pub(crate) fn new_connections(client: &Host, service: SocketAddr) -> Load {
    let make = || HttpClient::new(service, "/", Connections::PerRequest);
    Load::start(client, 4, Duration::from_millis(2), make)
}

/// Clients that each ask for `/` on one connection.
pub(crate) fn kept_connections(client: &Host, service: SocketAddr) -> Load {
    Load::start(client, 4, Duration::from_millis(2), || HttpClient::new(service, "/", Connections::Kept))
}

/// Clients that each ask for 200,000 bytes on one connection: segments as large as they come.
pub(crate) fn large_answers(client: &Host, service: SocketAddr) -> Load {
    Load::start(client, 2, Duration::from_millis(2), || HttpClient::new(service, "/large", Connections::Kept))
}

/// Clients that each post 200,000 bytes on a connection for each request: each has to find out anew how large its
/// segments may be, unless its host remembers.
pub(crate) fn large_uploads(client: &Host, service: SocketAddr) -> Load {
    Load::start(client, 2, Duration::from_millis(2), || {
        HttpClient::new(service, "/upload", Connections::PerRequest).uploading(vec![b'x'; 200_000])
    })
}

/// Clients that ask for a name by UDP, from a port of their own for each datagram.
pub(crate) fn datagrams(client: &Host) -> Result<Load> {
    let service = ONE_ARM_UDP.parse()?;
    Ok(Load::start(client, 2, Duration::from_millis(2), || UdpClient::new(service)))
}

pub(crate) fn assert_nothing_failed(report: &Report) -> Result<()> {
    ensure!(!report.answers.is_empty(), "no answer: {report:?}");
    ensure!(report.failed == 0, "{} of {} requests failed: {:?}", report.failed, report.sent, report.errors);
    Ok(())
}

/// Nothing failed, and each of these has at least half of an even share, nobody else any.
pub(crate) fn assert_spread_over(report: &Report, servers: &[&str]) -> Result<()> {
    assert_nothing_failed(report)?;
    let names: Vec<&str> = report.answers.keys().map(String::as_str).collect();
    ensure!(names == servers, "answered by {names:?}, not by {servers:?}");
    for server in servers {
        let share = report.share(server);
        ensure!(share > 0.5 / servers.len() as f64, "{server} gave {share:.2} of the answers: {report:?}");
    }
    Ok(())
}

/// Everybody on one segment: the node sends packets on by the interface that they came in by.
///
/// ```text
///   client 192.0.2.100      node 192.0.2.11, 10.0.0.2      s1, s2
///  ────┴───────────────────────────┴────────────────────────┴─┴──── one segment
/// ```
pub(crate) struct OneArm {
    pub(crate) client: Host,
    pub(crate) node: Node,
    pub(crate) servers: Vec<Server>,
    _segment: Segment,
    _bed: TestBed,
}

/// nginx, and names by UDP.
pub(crate) struct Server {
    pub(crate) host: Host,
    _nginx: Nginx,
    _names: UdpNames,
}

impl OneArm {
    /// With `nat` the servers are on a network of their own, so that their answers come back through the node;
    /// with `direct` they hold the address of the service and answer the client themselves.
    pub(crate) fn build(forward: &str) -> Result<Self> {
        let bed = TestBed::for_test()?;
        let segment = bed.segment("segment")?;
        let client = bed.host("client")?;
        segment.attach(&client, "eth0", &["192.0.2.100/24"])?;
        let network = if forward == "nat" { "10.0.0" } else { "192.0.2" };

        let mut servers = Vec::new();
        for number in [1, 2] {
            let host = bed.host(&format!("s{number}"))?;
            segment.attach(&host, "eth0", &[&format!("{network}.2{number}/24")])?;
            if forward == "nat" {
                host.add_route("default", "10.0.0.2")?;
            } else {
                host.hold_virtual_address(&ONE_ARM_SERVICE.ip().to_string())?;
            }
            let nginx = Nginx::start(&host)?;
            let own = format!("{network}.2{number}:53");
            let names = UdpNames::start(&host, if forward == "nat" { &own } else { ONE_ARM_UDP })?;
            servers.push(Server { host, _nginx: nginx, _names: names });
        }

        let host = bed.host("node")?;
        segment.attach(&host, "eth0", &["192.0.2.11/24", "192.0.2.10/24", "10.0.0.2/24"])?;
        let configuration = format!(
            "interfaces: [eth0]\n\
             services:\n  \
               - name: web\n    \
                 listen: [{ONE_ARM_SERVICE}]\n    \
                 forward: {forward}\n    \
                 check: {{ tcp: {{}}, every: 500ms, timeout: 400ms }}\n    \
                 backends: [{network}.21:80, {network}.22:80]\n  \
               - name: names\n    \
                 listen: [{ONE_ARM_UDP}]\n    \
                 protocol: udp\n    \
                 forward: {forward}\n    \
                 backends: [{network}.21:53, {network}.22:53]\n"
        );
        let mut node = Node::start(&host, &configuration)?;
        node.wait_until_backends_are_up()?;
        Ok(Self { client, node, servers, _segment: segment, _bed: bed })
    }
}
