//! Every forwarding method in both families, with real servers and clients.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use xtask::testbed::clients::{Client as _, Connections, HttpClient, UdpClient};
use xtask::testbed::dual_stack::{Arms, DualStack, HTTP, Method, NAMES};
use xtask::testbed::servers::nginx::HUGE;
use xtask::testbed::{Capture, Host};

use crate::support::{dual_stack, fetch, packets};

const TRAFFIC: &str = "tcp port 80 or udp port 53 or icmp or icmp6";

/// Enough that a server that is never picked is one that cannot be.
const QUESTIONS: usize = 30;

/// Asks from a port of its own each time; both servers have to answer.
fn assert_both_answer(mut ask: impl FnMut() -> Result<String>) -> Result<()> {
    let servers = (0..QUESTIONS).map(|_| ask()).collect::<Result<BTreeSet<_>>>()?;
    ensure!(servers.iter().eq(&["s1", "s2"]), "answered by {servers:?}");
    Ok(())
}

fn ask_for_name(client: &Host, service: SocketAddr, length: usize) -> Result<String> {
    client.enter(|| UdpClient::new(service).of_length(length).ask())
}

/// Runs for the services of every method by both families.
fn each(bed: &DualStack, port: u16, mut check: impl FnMut(SocketAddr) -> Result<()>) -> Result<()> {
    for method in Method::ALL {
        for service in method.services(port) {
            check(service).with_context(|| {
                format!("{} to {service}; the node has seen {}", method.name(), packets(&bed.node))
            })?;
        }
    }
    Ok(())
}

/// Connections, datagrams and long transfers, with every checksum looked at on the wire of the client and of a server.
fn assert_every_method_serves(bed: &DualStack) -> Result<()> {
    let mut captures = vec![Capture::start(&bed.client, "eth0", TRAFFIC)?];
    let interfaces = if bed.arms == Arms::Two { &["eth0", "eth1"][..] } else { &["eth0"] };
    for interface in interfaces {
        captures.push(Capture::start(&bed.servers[0].host, interface, TRAFFIC)?);
    }
    each(bed, HTTP, |service| {
        assert_both_answer(|| fetch(&bed.client, service, "/"))?;
        let large = fetch(&bed.client, service, "/large")?;
        ensure!(large.len() == 200_000, "{} bytes came", large.len());
        Ok(())
    })?;
    each(bed, NAMES, |service| assert_both_answer(|| ask_for_name(&bed.client, service, 13)))?;
    for capture in captures {
        capture.finish_with_good_checksums()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_arms_every_method_serves_tcp_and_udp_in_both_families_with_good_checksums() -> Result<()> {
    assert_every_method_serves(&dual_stack(Arms::Two)?)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_arm_every_method_serves_tcp_and_udp_in_both_families_with_good_checksums() -> Result<()> {
    assert_every_method_serves(&dual_stack(Arms::One)?)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn eleven_megabytes_go_through_every_method_both_ways() -> Result<()> {
    let bed = dual_stack(Arms::Two)?;
    each(&bed, HTTP, |service| {
        let down = fetch(&bed.client, service, "/huge")?;
        ensure!(down.len() == HUGE, "{} bytes came down", down.len());
        let up = bed.client.enter(|| {
            let client = HttpClient::new(service, "/upload", Connections::PerRequest);
            client.uploading(vec![b'x'; HUGE]).ask()
        })?;
        ensure!(up.starts_with('s'), "{up}");
        Ok(())
    })
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn datagrams_in_fragments_reach_one_server_by_every_method_and_are_answered() -> Result<()> {
    let bed = dual_stack(Arms::Two)?;
    each(&bed, NAMES, |service| assert_both_answer(|| ask_for_name(&bed.client, service, 4000)))
}
