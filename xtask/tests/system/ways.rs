//! Ways to backends that are lost while the daemon runs, and come back.
//!
//! ```text
//!   client 192.0.2.100        node 192.0.2.11, service .10
//!  ────┴──────────────────────────┴─── outside ───
//!                   node eth1 10.0.1.2 ── segment ── s1 10.0.1.21
//!                   node eth2 10.0.2.2 ── segment ── s2 10.0.2.21
//! ```

use anyhow::{Context as _, Result, ensure};
use xtask::status::{Backend, BackendState};
use xtask::testbed::clients::Client as _;
use xtask::testbed::servers::Nginx;
use xtask::testbed::{Host, Node, Segment, TestBed};

use crate::support::{A_WHILE, ONE_ARM_SERVICE as SERVICE, assert_spread_over, connect_to, new_connections};

const FIRST: &str = "10.0.1.21:80";
const CONFIGURATION: &str = "node: node\ninterfaces: [eth0, eth1, eth2]\nservices:\n  \
     - name: web\n    \
       listen: 192.0.2.10:80\n    \
       forward: nat\n    \
       backends: [10.0.1.21:80, 10.0.2.21:80]\n";

/// Fields are dropped from the first to the last: the bed goes at the end.
struct TwoWays {
    client: Host,
    node: Node,
    servers: Vec<Host>,
    /// One for each server.
    segments: Vec<Segment>,
    _nginx: Vec<Nginx>,
    _outside: Segment,
    _bed: TestBed,
}

impl TwoWays {
    /// Of a service without a check: nothing but the way tells whether a server is there.
    fn build() -> Result<Self> {
        let bed = TestBed::for_test()?;
        let outside = bed.segment("outside")?;
        let (client, host) = (bed.host("client")?, bed.host("node")?);
        outside.attach(&client, "eth0", &["192.0.2.100/24"])?;
        outside.attach(&host, "eth0", &["192.0.2.11/24", "192.0.2.10/24"])?;
        let (mut servers, mut segments, mut nginx) = (Vec::new(), Vec::new(), Vec::new());
        for number in [1, 2] {
            let segment = bed.segment(&format!("inside{number}"))?;
            segment.attach(&host, &format!("eth{number}"), &[&format!("10.0.{number}.2/24")])?;
            let server = bed.host(&format!("s{number}"))?;
            segment.attach(&server, "eth0", &[&format!("10.0.{number}.21/24")])?;
            server.add_route("default", &format!("10.0.{number}.2"))?;
            nginx.push(Nginx::start(&server)?);
            servers.push(server);
            segments.push(segment);
        }
        let mut node = Node::start(&host, CONFIGURATION)?;
        node.wait_until_backends_are_up()?;
        Ok(Self { client, node, servers, segments, _nginx: nginx, _outside: outside, _bed: bed })
    }

    fn assert_new_requests_go_to(&self, servers: &[&str]) -> Result<()> {
        assert_spread_over(&new_connections(&self.client, SERVICE).stop_after(A_WHILE)?, servers)
    }

    /// Waits until the first server is out of reach, which the status says with these words, and so does the page.
    fn wait_until_the_first_is_lost(&mut self, why: &str) -> Result<()> {
        let status = self.node.wait_until_backend(FIRST, BackendState::Down)?;
        let lost = first(&status.services[0].backends)?;
        ensure!(lost.reason.contains(why) && lost.share == 0.0, "{lost:?}");
        let page = self.node.evenkeel(&["status"])?;
        let line = page.lines().find(|line| line.trim_start().starts_with(FIRST)).context("no line")?;
        ensure!(line.contains("DOWN") && line.contains(why), "{line}");
        Ok(())
    }
}

fn first(backends: &[Backend]) -> Result<&Backend> {
    backends.iter().find(|backend| backend.address == FIRST).context("the status lacks s1")
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_backend_behind_a_link_that_is_down_takes_no_new_flow_keeps_its_own_and_is_back_with_the_link()
-> Result<()> {
    let mut bed = TwoWays::build()?;
    bed.assert_new_requests_go_to(&["s1", "s2"])?;
    let mut kept = connect_to(&bed.client, SERVICE, "s1")?;
    // By the administrator, which removes the routes, and by a cable, which does not.
    for by_cable in [false, true] {
        let set = |bed: &TwoWays, up: bool| match by_cable {
            true => bed.segments[0].set_cable(bed.node.host(), "eth1", up),
            false => {
                let state = if up { "up" } else { "down" };
                bed.node.host().run(["ip", "link", "set", "eth1", state]).map(drop)
            }
        };
        set(&bed, false)?;
        bed.wait_until_the_first_is_lost("its interface eth1 is down, or has no carrier")?;
        bed.assert_new_requests_go_to(&["s2"])?;
        set(&bed, true)?;
        bed.node.wait_until_backends_are_up()?;
        ensure!(kept.ask()? == "s1", "the connection of before is another server's");
        bed.assert_new_requests_go_to(&["s1", "s2"])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_backend_without_a_route_takes_no_new_flow_until_there_is_one() -> Result<()> {
    let mut bed = TwoWays::build()?;
    let host = bed.node.host().clone();
    host.run(["ip", "route", "add", "prohibit", "10.0.1.21"])?;
    bed.wait_until_the_first_is_lost("no route: the routing table says prohibit")?;
    bed.assert_new_requests_go_to(&["s2"])?;
    host.run(["ip", "route", "del", "prohibit", "10.0.1.21"])?;
    bed.node.wait_until_backends_are_up()?;
    bed.assert_new_requests_go_to(&["s1", "s2"])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_backend_without_a_check_takes_no_new_flow_while_it_does_not_answer_arp() -> Result<()> {
    let mut bed = TwoWays::build()?;
    let host = bed.node.host().clone();
    // The kernel's defaults are half a minute and five seconds.
    host.sysctl("net.ipv4.neigh.eth1.delay_first_probe_time", "1")?;
    bed.segments[0].set_cable(&bed.servers[0], "eth0", false)?;
    host.run(["ip", "neigh", "change", "10.0.1.21", "dev", "eth1", "nud", "stale"])?;
    bed.wait_until_the_first_is_lost("10.0.1.21 does not answer ARP")?;
    bed.assert_new_requests_go_to(&["s2"])?;
    bed.segments[0].set_cable(&bed.servers[0], "eth0", true)?;
    bed.node.wait_until_backends_are_up()?;
    bed.assert_new_requests_go_to(&["s1", "s2"])
}
