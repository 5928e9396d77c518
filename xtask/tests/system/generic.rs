//! Generic XDP, for drivers without native XDP.

use std::fs;

use anyhow::{Result, ensure};
use xtask::testbed::data_centre::{DataCentre, Plan};

use crate::support::{
    A_WHILE, assert_nothing_failed, assert_spread_over, data_centre, large_answers, new_connections,
};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn generic_mode_is_taken_by_a_reload_forwards_like_native_and_is_said_in_the_status() -> Result<()> {
    let mut data_centre = data_centre(Plan { app: 1, ..Plan::WEB })?;
    let node = &mut data_centre.nodes[0];
    let native = fs::read_to_string(node.configuration_file())?;
    let listed = "interfaces: [eth0, eth1]";
    ensure!(native.contains(listed), "{native}");
    let generic = "interfaces: [{ name: eth0, mode: generic }, { name: eth1, mode: generic }]";
    node.write_configuration(&native.replace(listed, generic))?;
    node.wait_until("generic mode", |status| status.interfaces.iter().all(|i| i.mode == "generic"))?;

    for (service, names) in
        [(DataCentre::web_service(), &["web-1", "web-2"][..]), (DataCentre::app_service(), &["app-1"][..])]
    {
        let report = new_connections(&data_centre.client, service).stop_after(A_WHILE)?;
        assert_spread_over(&report, names)?;
        assert_nothing_failed(&large_answers(&data_centre.client, service).stop_after(A_WHILE)?)?;
    }

    let node = &mut data_centre.nodes[0];
    node.write_configuration(&native)?;
    node.wait_until("native mode again", |status| status.interfaces.iter().all(|i| i.mode == "native"))?;
    Ok(())
}
