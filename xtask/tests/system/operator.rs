//! Backends that an operator takes out and back in, and backends that vanish, as clients and the command line see it.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::status::{BackendState, Service};
use xtask::testbed::clients::{Client as _, HttpClient};
use xtask::testbed::dual_stack::{Arms, CHECK, DualStack, HTTP, Method, service};
use xtask::testbed::servers::nginx::HUGE;
use xtask::testbed::{Node, TestBed};

use crate::support::{
    A_WHILE, assert_spread_over, connect, connect_to, download, dual_stack, kept_connections, new_connections,
};

/// Two servers behind a service `web`.
fn web(method: Method) -> Result<DualStack> {
    let services = service("web", method, HTTP, 2, CHECK)?;
    DualStack::build_with(TestBed::for_test()?, Arms::Two, 2, &services)
}

/// Asks once more on a connection, which must fail by a reset, and at once.
fn assert_reset(connection: &mut HttpClient) -> Result<()> {
    let asked = Instant::now();
    let error = connection.ask().err().context("the connection still works")?;
    ensure!(format!("{error:#}").contains("Connection reset by peer"), "{error:#}");
    ensure!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_long_download_survives_the_drain_of_its_server_which_gets_nothing_new_until_undrained() -> Result<()> {
    for (service, address) in Method::Nat.services(HTTP).into_iter().zip(["10.0.0.21:80", "[fd00::21]:80"]) {
        let mut bed = web(Method::Nat)?;
        let name = format!("web/{address}");
        // Both servers have downloads.
        let downloads = (0..20).map(|_| download(&bed.client, service)).collect::<Result<Vec<_>>>()?;
        bed.node.wait_until("downloads on s1", |status| {
            let mut backends = status.services.iter().flat_map(|service| &service.backends);
            backends.any(|backend| backend.address == address && backend.active_flows > 0)
        })?;
        let said = bed.node.evenkeel(&["drain", &name])?;
        ensure!(said.contains(&format!("{name}: draining")), "{said}");
        bed.node.wait_until_backend(address, BackendState::Draining)?;

        let shown = bed.node.evenkeel(&["status"])?;
        let line = shown.lines().find(|line| line.trim_start().starts_with(address)).context("no line")?;
        ensure!(line.contains("draining") && line.contains("drained by command"), "{line}");
        let report = new_connections(&bed.client, service).stop_after(A_WHILE)?;
        assert_spread_over(&report, &["s2"])?;
        for download in downloads {
            let length = download.finish()?.len();
            ensure!(length == HUGE, "{length} bytes came");
        }

        let said = bed.node.evenkeel(&["undrain", &name])?;
        ensure!(said.contains(&format!("{name}: active")), "{said}");
        bed.node.wait_until_backends_are_up()?;
        let report = new_connections(&bed.client, service).stop_after(A_WHILE)?;
        assert_spread_over(&report, &["s1", "s2"])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn clients_of_a_disabled_server_are_reset_at_once_by_every_method_and_reach_the_other() -> Result<()> {
    let mut bed = dual_stack(Arms::Two)?;
    for method in [Method::Nat, Method::FullNat, Method::Direct, Method::IpIn4, Method::GueOver6] {
        for service in method.services(HTTP) {
            let what = || format!("{} to {service}", method.name());
            let v6_backend = service.is_ipv6() && method != Method::IpIn4 || method == Method::GueOver6;
            let address = if v6_backend { "[fd00::21]:80" } else { "10.0.0.21:80" };
            let name = &format!("{}/{address}", method.name());
            let mut connection = connect_to(&bed.client, service, "s1").with_context(what)?;
            bed.node.evenkeel(&["disable", name])?;
            bed.node.wait_until_backend(address, BackendState::Disabled)?;
            assert_reset(&mut connection).with_context(what)?;
            ensure!(connect(&bed.client, service).with_context(what)?.1 == "s2", "{}: to s1", what());
            bed.node.evenkeel(&["undrain", name])?;
            bed.node.wait_until_backends_are_up()?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_download_from_a_server_that_is_disabled_ends_in_a_reset() -> Result<()> {
    let bed = web(Method::Nat)?;
    let [service, _] = Method::Nat.services(HTTP);
    bed.node.evenkeel(&["disable", "10.0.0.22:80"])?;
    let download = download(&bed.client, service)?;
    bed.node.evenkeel(&["disable", "10.0.0.21:80"])?;
    let error = download.finish().err().context("it went on to its end")?;
    ensure!(format!("{error:#}").contains("Connection reset by peer"), "{error:#}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn connections_to_a_server_that_vanishes_are_reset_and_new_ones_go_elsewhere() -> Result<()> {
    let mut bed = web(Method::Nat)?;
    for (service, address) in Method::Nat.services(HTTP).into_iter().zip(["10.0.0.21:80", "[fd00::21]:80"]) {
        let mut connection = connect_to(&bed.client, service, "s1")?;
        // No FIN, no RST, no ICMP error: it is only silent.
        bed.inside.set_cable(&bed.servers[0].host, "eth0", false)?;
        bed.node.wait_until_backend(address, BackendState::Down)?;
        assert_reset(&mut connection)?;
        assert_spread_over(&new_connections(&bed.client, service).stop_after(A_WHILE)?, &["s2"])?;
        bed.inside.set_cable(&bed.servers[0].host, "eth0", true)?;
        bed.node.wait_until_backends_are_up()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_status_shows_flows_while_they_last() -> Result<()> {
    let mut bed = web(Method::FullNat)?;
    for service in Method::FullNat.services(HTTP) {
        let load = kept_connections(&bed.client, service);
        let status = bed.node.wait_until("four flows", |status| status.services[0].active_flows == 4)?;
        let table = if service.is_ipv4() { status.flows.ipv4 } else { status.flows.ipv6 };
        ensure!(table.entries >= 8, "a flow has two halves: {:?}", status.flows);
        drop(load.stop()?);
        // Closed connections are remembered for a while: `time_wait`.
        let status = bed.node.wait_until("no active flow", |status| status.services[0].active_flows == 0)?;
        let ended = |service: &Service| service.inactive_flows;
        ensure!(ended(&status.services[0]) >= 4, "ended flows are not counted: {:?}", status.services[0]);
        let sum: u64 = status.services[0].backends.iter().map(|backend| backend.inactive_flows).sum();
        ensure!(ended(&status.services[0]) == sum, "{:?}", status.services[0]);
    }
    Ok(())
}

fn run(node: &Node, words: &[&str]) -> Result<Output> {
    let mut command = node.host().command(xtask::workspace::evenkeel()?);
    Ok(command.args(words).arg("--run-dir").arg(node.run_dir()).output()?)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_wrong_word_to_a_command_changes_nothing_and_is_explained() -> Result<()> {
    let bed = web(Method::Nat)?;
    for (words, code, explained) in [
        (&["drain", "web/10.0.0.99:80"][..], 1, "web/10.0.0.21:80"),
        (&["drain", "shop/10.0.0.21:80"], 1, "web/10.0.0.21:80"),
        (&["drain", "web"], 1, "SERVICE/ADDRESS:PORT"),
        (&["disable", ""], 1, "SERVICE/ADDRESS:PORT"),
        (&["undrain", "10.0.0.21"], 1, "web/10.0.0.21:80"),
        (&["drain", "10.0.0.21:80", "--deadline", "0s"], 2, "1s to 7d"),
        (&["drain", "10.0.0.21:80", "--deadline", "5"], 2, "5m"),
        (&["drain"], 2, "BACKEND"),
        (&["undrain", "10.0.0.21:80", "10.0.0.22:80"], 2, "unexpected argument"),
    ] {
        let output = run(&bed.node, words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{words:?}: {:?}: {said}", output.status);
        ensure!(said.contains(explained), "{words:?}: {said}");
    }
    let states = bed.node.status()?.services.into_iter().flat_map(|service| service.backends);
    ensure!(states.into_iter().all(|backend| backend.state == BackendState::Up), "a backend is out");
    Ok(())
}
