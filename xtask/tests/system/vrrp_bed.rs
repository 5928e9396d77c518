//! A pair of nodes whose instances each test writes itself.
//!
//! ```text
//!            client .100       direct .21
//!   ──┬─────────┴───────┬──────────┴──── outside 192.0.2.0/24, virtual .10 (nat), .20 (direct)
//!     │ eth0            │ eth0
//!   lb-a .11          lb-b .12
//!     │ eth1            │ eth1
//!   ──┴────────┬────────┴───┬─────────── inside 10.0.0.0/24, virtual .1
//!            web-1 .11    web-2 .12
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use xtask::status::{Instance, InstanceState};
use xtask::testbed::clients::Load;
use xtask::testbed::data_centre;
use xtask::testbed::servers::Nginx;
use xtask::testbed::{Host, Node, Process, Segment, TestBed, wait_for};

use crate::support::{assert_nothing_failed, new_connections};

pub(crate) const NAT: &str = "192.0.2.10";
pub(crate) const DIRECT: &str = "192.0.2.20";
pub(crate) const INSIDE: &str = "10.0.0.1";

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Of one load, see [`new_connections`].
const CLIENTS: u64 = 4;

/// The services of every node; checks are quick, so that nobody waits for them.
pub(crate) const SERVICES: &str = "\
services:
  - name: web
    listen: [192.0.2.10:80]
    forward: nat
    check: { tcp: {}, every: 300ms, timeout: 250ms }
    backends: [10.0.0.11:80, 10.0.0.12:80]
  - name: site
    listen: [192.0.2.20:80]
    forward: direct
    check: { tcp: {}, every: 300ms, timeout: 250ms }
    backends: [192.0.2.21]
";

/// Fields are dropped from the first to the last: the bed goes at the end.
pub(crate) struct Pair {
    pub(crate) client: Host,
    /// The first has priority 150, the second 100.
    pub(crate) nodes: Vec<Node>,
    pub(crate) web: Vec<Host>,
    pub(crate) outside: Segment,
    pub(crate) inside: Segment,
    _servers: Vec<Nginx>,
    _bed: TestBed,
}

impl Pair {
    /// Both nodes with what `configuration` says for 0 and 1; waits for the first to be master of everything, for the
    /// second to be backup, and for every backend.
    pub(crate) fn build(configuration: impl Fn(usize, &Host) -> Result<String>) -> Result<Self> {
        let bed = TestBed::for_test()?;
        let (outside, inside) = (bed.segment("outside")?, bed.segment("inside")?);
        let client = bed.host("client")?;
        outside.attach(&client, "eth0", &["192.0.2.100/24"])?;
        let mut servers = Vec::new();
        let mut web = Vec::new();
        for number in [1, 2] {
            let host = bed.host(&format!("web-{number}"))?;
            inside.attach(&host, "eth0", &[&format!("10.0.0.1{number}/24")])?;
            host.add_route("default", INSIDE)?;
            servers.push(Nginx::start(&host)?);
            web.push(host);
        }
        let direct = bed.host("direct")?;
        outside.attach(&direct, "eth0", &["192.0.2.21/24"])?;
        direct.hold_virtual_address(DIRECT)?;
        servers.push(Nginx::start(&direct)?);

        let mut nodes = Vec::new();
        for (index, name) in ["lb-a", "lb-b"].into_iter().enumerate() {
            let host = bed.host(name)?;
            outside.attach(&host, "eth0", &[&format!("192.0.2.1{}/24", index + 1)])?;
            inside.attach(&host, "eth1", &[&format!("10.0.0.{}/24", index + 2)])?;
            let text = configuration(index, &host)?;
            nodes.push(Node::start(&host, &format!("node: {name}\ninterfaces: [eth0, eth1]\n{text}"))?);
        }
        let mut pair = Self { client, nodes, web, outside, inside, _servers: servers, _bed: bed };
        pair.nodes[0].wait_until_instances(InstanceState::Master)?;
        pair.nodes[1].wait_until_instances(InstanceState::Backup)?;
        for node in &mut pair.nodes {
            node.wait_until_backends_are_up()?;
        }
        Ok(pair)
    }

    /// Outside and inside in one group, with `more` keys for each of the instances (`key: value`).
    pub(crate) fn grouped(more: &[&str]) -> Result<Self> {
        Self::build(|index, _| Ok(group(index, more) + SERVICES))
    }

    /// One of the nodes becomes master of everything, the other backup.
    pub(crate) fn wait_until_master(&mut self, index: usize) -> Result<()> {
        self.nodes[index].wait_until_instances(InstanceState::Master)?;
        self.nodes[1 - index].wait_until_instances(InstanceState::Backup)?;
        self.wait_until_no_virtual_address_on(1 - index)
    }

    pub(crate) fn wait_until_no_virtual_address_on(&self, index: usize) -> Result<()> {
        [NAT, DIRECT, INSIDE]
            .into_iter()
            .try_for_each(|address| self.nodes[index].host().wait_until_it_lacks(address))
    }

    /// Everything that shows a gap: a probe each millisecond, and connections by `nat` and `direct`.
    pub(crate) fn start_clients(&self) -> Result<Clients> {
        let loads = [NAT, DIRECT].map(|address| new_connections(&self.client, service(address)));
        Ok(Clients { probes: Probes::start(&self.client, NAT)?, loads })
    }
}

pub(crate) fn service(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().expect("the constants are addresses"), 80)
}

/// `outside` and `inside` in group `edge`, as node 0 or 1 has them.
pub(crate) fn group(index: usize, more: &[&str]) -> String {
    instances(index, &[&["group: edge"], more].concat())
}

/// `outside` and `inside`, as node 0 or 1 has them, each with these keys too.
pub(crate) fn instances(index: usize, more: &[&str]) -> String {
    let node = u8::try_from(index).expect("there are two nodes");
    data_centre::instances(node, &format!("{NAT}/24, {DIRECT}/24"), &format!("{INSIDE}/24"), more)
}

/// The state that a node gives of one of its instances.
pub(crate) fn instance(node: &Node, name: &str) -> Result<Instance> {
    let found = node.status()?.instances.into_iter().find(|instance| instance.name == name);
    found.with_context(|| format!("{} has no instance {name}", node.host().name()))
}

pub(crate) struct Clients {
    probes: Probes,
    loads: [Load; 2],
}

impl Clients {
    /// Nothing was lost and nothing failed, but for requests by `nat` that waited for their answer while the addresses
    /// moved, so many times: what the backend sends before the client's next packet has passed the new master is not
    /// rewritten, and a client that only waits sends none.
    pub(crate) fn finish(self, moves: u64) -> Result<()> {
        let lost = self.probes.finish();
        let [nat, direct] = self.loads;
        assert_nothing_failed(&direct.stop()?).context("by direct")?;
        let nat = nat.stop()?;
        let waited: u64 = nat
            .errors
            .iter()
            .filter(|(error, _)| error.starts_with("receive: "))
            .map(|(_, count)| count)
            .sum();
        ensure!(nat.failed == waited && waited <= moves * CLIENTS, "by nat: {:?}", nat.errors);
        ensure!(nat.answers.values().sum::<u64>() > 0, "by nat: no answer");
        let (sent, lost) = lost?;
        ensure!(lost == 0, "{lost} of {sent} probes were not answered");
        Ok(())
    }
}

/// ICMP echo requests, 1000 a second, whether answered or not.
pub(crate) struct Probes(Process);

impl Probes {
    pub(crate) fn start(client: &Host, address: &str) -> Result<Self> {
        let mut command = client.command("ping");
        command.args(["-q", "-n", "-i", "0.001", address]);
        Ok(Self(client.spawn("ping", &mut command)?))
    }

    /// How many were sent, and how many not answered.
    pub(crate) fn finish(mut self) -> Result<(u64, u64)> {
        let counted = |line: &str| -> Option<(u64, u64)> {
            let mut words = line.split(", ");
            let sent: u64 = words.next()?.strip_suffix(" packets transmitted")?.parse().ok()?;
            let answered: u64 = words.next()?.strip_suffix(" received")?.parse().ok()?;
            Some((sent, sent.saturating_sub(answered)))
        };
        self.0.signal(Signal::SIGINT)?;
        wait_for("the statistics of ping", PATIENCE, || Ok(self.0.log().lines().rev().find_map(counted)))
    }
}
