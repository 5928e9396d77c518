//! The daemon goes away and comes back; the data plane stays.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::status::{BackendState, Service, Status};
use xtask::testbed::clients::MySqlSession;
use xtask::testbed::data_centre::{DataCentre, Plan};
use xtask::testbed::dual_stack::{Arms, HTTP, Method};
use xtask::testbed::wait_for;

use crate::support::{
    A_WHILE, ONE_ARM_SERVICE, OneArm, assert_nothing_failed, assert_spread_over, counted, data_centre,
    dual_stack, kept_connections, new_connections,
};

const A_LONG_TIME: Duration = Duration::from_secs(30);
const CONNECTION: &str = "SELECT CONNECTION_ID();";

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_established_connection_survives_kill_9_and_restart_of_the_daemon() -> Result<()> {
    let mut data_centre = data_centre(Plan { database: true, ..Plan::WEB })?;
    let mut session = MySqlSession::open(&data_centre.client, DataCentre::database_service())?;
    let before = session.query(CONNECTION)?;

    data_centre.nodes[0].kill_daemon()?;
    data_centre.nodes[0].start_daemon()?;
    data_centre.nodes[0].wait_until_backends_are_up()?;

    let after = session.query(CONNECTION)?;
    ensure!(before == after, "the connection was {before} and is {after}");
    let report = new_connections(&data_centre.client, DataCentre::web_service()).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["web-1", "web-2"])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn new_connections_of_both_families_are_served_while_no_daemon_runs_and_through_restarts() -> Result<()> {
    let mut bed = dual_stack(Arms::Two)?;
    let clients: Vec<_> =
        Method::Nat.services(HTTP).into_iter().map(|service| new_connections(&bed.client, service)).collect();
    for _ in 0..2 {
        bed.node.kill_daemon()?;
        thread::sleep(A_WHILE);
        bed.node.start_daemon()?;
        bed.node.wait_until_backends_are_up()?;
    }
    for load in clients {
        assert_nothing_failed(&load.stop_after(A_WHILE)?)?;
    }
    // A client that sends its SYN again would not tell.
    let dropped = counted(&bed.node, "no_backend")?;
    ensure!(dropped == 0, "{dropped} packets found no backend");
    let links = bed.node.host().bpf_folder().join("links");
    wait_for("an end of what earlier programs went on in", A_LONG_TIME, || {
        let pins = fs::read_dir(&links)?
            .map(|pin| Ok(pin?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>>>()?;
        let of_programs = pins.iter().filter(|pin| pin.contains("-programs-")).count();
        Ok((of_programs == 2 && pins.len() == 4).then_some(()))
    })
}

fn service<'s>(status: &'s Status, name: &str) -> Option<&'s Service> {
    status.services.iter().find(|service| service.name.starts_with(name))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_counters_of_a_service_do_not_fall_with_a_restart_even_before_the_checks_have_spoken() -> Result<()> {
    let mut bed = OneArm::build("nat")?;
    new_connections(&bed.client, ONE_ARM_SERVICE).stop_after(A_WHILE)?;
    let before = service(&bed.node.status()?, "web").context("no service web")?.traffic;
    ensure!(before.new_flows > 0, "no flow was counted");

    bed.node.kill_daemon()?;
    bed.node.start_daemon()?;
    let after = service(&bed.node.wait_until("the daemon answers", |_| true)?, "web")
        .context("no service web after the restart")?
        .traffic;
    ensure!(after.new_flows >= before.new_flows, "counters fell from {before:?} to {after:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_service_that_was_removed_is_shown_until_its_flows_have_ended_across_a_restart_too() -> Result<()> {
    let mut bed = OneArm::build("nat")?;
    let kept = kept_connections(&bed.client, ONE_ARM_SERVICE);
    thread::sleep(A_WHILE);
    bed.node.write_configuration("interfaces: [eth0]\nservices: []\n")?;
    let drains = |service: &Service| {
        let mut backends = service.backends.iter();
        backends.any(|b| b.state == BackendState::Draining && b.reason.ends_with(" flows left"))
    };
    bed.node.wait_until("web is shown as removed", |s| service(s, "web (removed").is_some_and(drains))?;
    bed.node.kill_daemon()?;
    bed.node.start_daemon()?;
    bed.node.wait_until("it is shown again", |s| service(s, "(removed").is_some_and(drains))?;
    assert_nothing_failed(&kept.stop()?)
}
