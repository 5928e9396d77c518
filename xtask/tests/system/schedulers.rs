//! Every scheduler, with real connections.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::testbed::clients::HttpClient;
use xtask::testbed::dual_stack::{Arms, CHECK, DualStack, HTTP, Method, service};
use xtask::testbed::{Host, TestBed};

use crate::support::{assert_nothing_failed, connect, kept_connections, new_connections};

const ALL: [&str; 8] =
    ["maglev", "source-hash", "round-robin", "weighted", "least-conn", "failover", "overflow", "random"];

/// A service by `nat`; the backends before the last have a limit that is never reached, as `overflow` wants.
fn web(scheduler: &str, servers: u8) -> Result<String> {
    let extra = format!("{CHECK}    scheduler: {scheduler}\n");
    let mut text = service("web", Method::Nat, HTTP, servers, &extra)?;
    if scheduler == "overflow" {
        for server in 1..=servers {
            for backend in [format!("10.0.0.2{server}:80"), format!("[fd00::2{server}]:80")] {
                let limited = format!("{{ address: \"{backend}\", limit: 1000 }}");
                text = text.replace(&format!("\"{backend}\""), &limited);
            }
        }
    }
    Ok(text)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_scheduler_loses_a_connection_while_servers_come_and_go_under_load() -> Result<()> {
    let mut bed = DualStack::build_with(TestBed::for_test()?, Arms::Two, 3, &web(ALL[0], 3)?)?;
    for scheduler in ALL {
        bed.apply(&web(scheduler, 2)?)?;
        let loads: Vec<_> = Method::Nat
            .services(HTTP)
            .into_iter()
            .flat_map(|service| {
                [kept_connections(&bed.client, service), new_connections(&bed.client, service)]
            })
            .collect();
        for servers in [3, 1, 3, 2] {
            std::thread::sleep(Duration::from_millis(300));
            bed.apply(&web(scheduler, servers)?)?;
        }
        for load in loads {
            let report = load.stop_after(Duration::from_millis(200))?;
            assert_nothing_failed(&report).with_context(|| scheduler)?;
        }
    }
    Ok(())
}

/// Connections by server.
type Open = BTreeMap<String, Vec<HttpClient>>;

fn open(client: &Host, service: std::net::SocketAddr, count: usize, open: &mut Open) -> Result<()> {
    for _ in 0..count {
        let (connection, server) = connect(client, service)?;
        open.entry(server).or_default().push(connection);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn least_conn_evens_out_what_clients_leave_uneven() -> Result<()> {
    let mut bed = DualStack::build_with(TestBed::for_test()?, Arms::Two, 3, &web("least-conn", 3)?)?;
    for service in Method::Nat.services(HTTP) {
        let mut connections = Open::new();
        let count = |connections: &Open| connections.values().map(Vec::len).collect::<Vec<_>>();
        open(&bed.client, service, 30, &mut connections)?;
        let even = count(&connections);
        ensure!(even.iter().all(|count| (9..=11).contains(count)) && even.len() == 3, "{even:?}");
        connections.remove("s1");
        bed.node.wait_until("closed", |status| status.services[0].active_flows < 22)?;
        open(&bed.client, service, 10, &mut connections)?;
        let even = count(&connections);
        ensure!(even.iter().all(|count| (9..=11).contains(count)) && even.len() == 3, "{even:?}");
        drop(connections);
        bed.node.wait_until("all closed", |status| status.services[0].active_flows == 0)?;
    }
    Ok(())
}
