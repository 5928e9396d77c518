//! Who is let in, how many, and who stays where: as clients see it, and as the metrics count it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use xtask::testbed::dual_stack::{Arms, DualStack, HTTP, Method, service};
use xtask::testbed::{Host, Node, TestBed};

use crate::support::connect;

fn web(servers: u8, extra: &str) -> Result<DualStack> {
    let services = service("web", Method::Nat, HTTP, servers, extra)?;
    DualStack::build_with(TestBed::for_test()?, Arms::Two, servers, &services)
}

/// Asks from one of the client's addresses.
fn curl(client: &Host, source: &str, service: SocketAddr) -> Result<String> {
    let url = format!("http://{service}/");
    let name = client.run(["curl", "-sS", "--max-time", "1", "--interface", source, &url])?;
    Ok(name.trim().to_owned())
}

/// What the metrics page says of a reason.
fn dropped(node: &Node, reason: &str) -> Result<u64> {
    let page = node.host().run(["curl", "-sS", "http://127.0.0.1:9620/metrics"])?;
    let series = format!("evenkeel_packets_total{{verdict=\"drop\",reason=\"{reason}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&series));
    value.with_context(|| format!("the page has no {series}"))?.parse().context("no number")
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_denied_source_gets_no_answer_and_is_counted_while_others_are_served() -> Result<()> {
    let bed = web(1, "    deny: [192.0.2.101, \"2001:db8:1::101\"]\n")?;
    for (service, network) in Method::Nat.services(HTTP).into_iter().zip(["192.0.2.", "2001:db8:1::"]) {
        let before = dropped(&bed.node, "denied")?;
        ensure!(curl(&bed.client, &format!("{network}100"), service)? == "s1", "s1 does not answer");
        ensure!(dropped(&bed.node, "denied")? == before, "a source that is let in was denied");
        ensure!(curl(&bed.client, &format!("{network}101"), service).is_err(), "it is let in");
        ensure!(dropped(&bed.node, "denied")? > before, "not counted");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_allow_only_the_sources_in_it_are_served() -> Result<()> {
    let bed = web(1, "    allow: [192.0.2.100/32]\n")?;
    let [v4, v6] = Method::Nat.services(HTTP);
    ensure!(curl(&bed.client, "192.0.2.100", v4)? == "s1", "s1 does not answer");
    ensure!(curl(&bed.client, "192.0.2.101", v4).is_err(), "a source that is not listed is let in");
    ensure!(curl(&bed.client, "2001:db8:1::100", v6).is_err(), "IPv6 is let in though only IPv4 is listed");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_source_beyond_its_limit_gets_no_new_connections_and_keeps_those_it_has() -> Result<()> {
    for (limit, reason) in [
        ("new_flows_per_source: { per_second: 1, burst: 5 }", "source_limit"),
        ("new_flows: { per_second: 1, burst: 5 }", "service_limit"),
    ] {
        let bed = web(1, &format!("    limits: {{ {limit} }}\n"))?;
        for service in Method::Nat.services(HTTP) {
            let (mut kept, _) = connect(&bed.client, service)?;
            let before = dropped(&bed.node, reason)?;
            let source = if service.is_ipv4() { "192.0.2.100" } else { "2001:db8:1::100" };
            let served = (0..10).filter(|_| curl(&bed.client, source, service).is_ok()).count();
            ensure!((3..10).contains(&served), "{reason}: {served} of 10 were served");
            ensure!(dropped(&bed.node, reason)? > before, "{reason} is not counted");
            xtask::testbed::clients::Client::ask(&mut kept).context("the connection that was there first")?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_full_backend_gets_no_more_connections_and_the_next_client_waits() -> Result<()> {
    let mut bed = web(1, "")?;
    let text = service("web", Method::Nat, HTTP, 1, "")?;
    let limited = text
        .replace("\"10.0.0.21:80\"", "{ address: 10.0.0.21:80, limit: 3 }")
        .replace("\"[fd00::21]:80\"", "{ address: \"[fd00::21]:80\", limit: 3 }");
    bed.apply(&limited)?;
    for service in Method::Nat.services(HTTP) {
        let source = if service.is_ipv4() { "192.0.2.100" } else { "2001:db8:1::100" };
        let before = dropped(&bed.node, "backend_limit")?;
        let kept = (0..3).map(|_| connect(&bed.client, service)).collect::<Result<Vec<_>>>()?;
        bed.node.wait_until("three flows", |status| status.services[0].active_flows == 3)?;
        ensure!(curl(&bed.client, source, service).is_err(), "the fourth connection is served");
        ensure!(dropped(&bed.node, "backend_limit")? > before, "not counted");
        drop(kept);
        bed.node.wait_until("no flow", |status| status.services[0].active_flows == 0)?;
        ensure!(curl(&bed.client, source, service)? == "s1", "it stays full");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_persistent_client_stays_with_its_server_while_servers_come() -> Result<()> {
    let persistent = "    scheduler: round-robin\n    persistence: 1m\n";
    let mut bed = web(3, persistent)?;
    bed.apply(&service("web", Method::Nat, HTTP, 2, persistent)?)?;
    for service_address in Method::Nat.services(HTTP) {
        bed.apply(&service("web", Method::Nat, HTTP, 2, persistent)?)?;
        let (_, server) = connect(&bed.client, service_address)?;
        for servers in [2, 3] {
            bed.apply(&service("web", Method::Nat, HTTP, servers, persistent)?)?;
            for _ in 0..10 {
                let (_, now) = connect(&bed.client, service_address)?;
                ensure!(now == server, "{service_address}: it was with {server} and is with {now}");
            }
        }
    }
    Ok(())
}
