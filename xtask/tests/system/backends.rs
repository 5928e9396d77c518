//! Checks take backends out of the rotation and bring them back.

use anyhow::{Result, ensure};
use xtask::status::BackendState;
use xtask::testbed::data_centre::{DataCentre, Plan};
use xtask::testbed::servers::Nginx;

use crate::support::{A_WHILE, assert_spread_over, data_centre, new_connections};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_backend_that_is_down_takes_no_new_flow_until_it_is_back() -> Result<()> {
    let mut data_centre = data_centre(Plan::WEB)?;
    let (service, backend) = (DataCentre::web_service(), DataCentre::web_backend(1));
    data_centre.web[0].nginx.kill()?;
    let status = data_centre.nodes[0].wait_until_backend(&backend, BackendState::Down)?;
    let down = status.services[0].backends.iter().find(|known| known.state == BackendState::Down);
    ensure!(down.is_some_and(|down| !down.reason.is_empty() && down.share == 0.0), "no reason: {down:?}");
    let report = new_connections(&data_centre.client, service).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["web-2"])?;

    let web = &mut data_centre.web[0];
    web.nginx = Nginx::start(&web.host)?;
    data_centre.nodes[0].wait_until_backend(&backend, BackendState::Up)?;
    let report = new_connections(&data_centre.client, service).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["web-1", "web-2"])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_syn_is_dropped_while_a_check_takes_a_backend_out() -> Result<()> {
    let mut data_centre = data_centre(Plan::WEB)?;
    let load = new_connections(&data_centre.client, DataCentre::web_service());
    data_centre.web[0].nginx.kill()?;
    data_centre.nodes[0].wait_until_backend(&DataCentre::web_backend(1), BackendState::Down)?;
    load.stop_after(A_WHILE)?;
    let status = data_centre.nodes[0].status()?;
    let dropped = status.packets.iter().find(|count| count.reason == "no_backend");
    ensure!(dropped.is_some_and(|count| count.packets == 0), "{dropped:?}");
    Ok(())
}
