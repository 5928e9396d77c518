//! MariaDB behind `nat` and `fullnat`.

use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::testbed::Capture;
use xtask::testbed::clients::{Load, MySqlClient, MySqlSession};
use xtask::testbed::data_centre::{DataCentre, Plan};

use xtask::testbed::TestBed;
use xtask::testbed::dual_stack::{Arms, DualStack, Method, service};
use xtask::testbed::servers::MariaDb;

use crate::support::{A_WHILE, assert_spread_over, data_centre};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn queries_through_the_virtual_address_are_answered() -> Result<()> {
    let data_centre = data_centre(Plan { database: true, ..Plan::WEB })?;
    let capture = Capture::start(&data_centre.client, "eth0", "tcp port 3306")?;
    let service = DataCentre::database_service();
    let make = || MySqlClient::new(service);
    let load = Load::start(&data_centre.client, 2, Duration::from_millis(10), make);
    assert_spread_over(&load.stop_after(A_WHILE)?, &["db"])?;

    let mut session = MySqlSession::open(&data_centre.client, service)?;
    let long = session.query("SELECT REPEAT('x', 100000);")?;
    ensure!(long.len() == 100_000, "{} characters came through", long.len());
    let packets = capture.finish_with_good_checksums()?;
    ensure!(packets > 100, "{packets} packets are too few");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn queries_by_fullnat_are_answered_in_both_families() -> Result<()> {
    let services = service("db", Method::FullNat, 3306, 1, "")?;
    let bed = DualStack::build_with(TestBed::for_test()?, Arms::Two, 1, &services)?;
    let _mariadb = MariaDb::start(&bed.servers[0].host)?;
    let capture = Capture::start(&bed.client, "eth0", "tcp port 3306")?;
    for service in Method::FullNat.services(3306) {
        let mut session = MySqlSession::open(&bed.client, service)?;
        ensure!(session.query("SELECT name FROM shop.server;")? == "s1", "another server answers");
        let long = session.query("SELECT REPEAT('x', 100000);")?;
        ensure!(long.len() == 100_000, "{} characters came through", long.len());
        let from = session.query("SELECT USER();")?;
        let source = if service.is_ipv4() { "shop@10.0.0.5" } else { "shop@fd00::5" };
        ensure!(from == source, "the server sees {from}");
    }
    capture.finish_with_good_checksums()?;
    Ok(())
}
