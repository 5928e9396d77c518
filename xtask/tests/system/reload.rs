//! The configuration is changed while traffic runs.

use std::fs;
use std::thread;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use xtask::status::BackendState;
use xtask::testbed::clients::Report;
use xtask::testbed::data_centre::{DataCentre, Plan};

use crate::support::{
    A_WHILE, assert_nothing_failed, assert_spread_over, data_centre, kept_connections, new_connections,
};

const THREE_WEB: Plan = Plan { web: 3, ..Plan::WEB };

/// Runs both kinds of load while `change` happens and `web-3` comes in.
fn under_load(
    data_centre: &mut DataCentre,
    change: impl FnOnce(&mut DataCentre) -> Result<()>,
) -> Result<Report> {
    let service = DataCentre::web_service();
    let new = new_connections(&data_centre.client, service);
    let kept = kept_connections(&data_centre.client, service);
    thread::sleep(A_WHILE);
    change(data_centre)?;
    data_centre.nodes[0].wait_until_backend(&DataCentre::web_backend(3), BackendState::Up)?;
    let report = new.stop_after(A_WHILE)?;
    assert_nothing_failed(&report)?;
    assert_nothing_failed(&kept.stop()?)?;
    Ok(report)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_saved_file_is_applied_and_no_request_fails() -> Result<()> {
    let mut data_centre = data_centre(THREE_WEB)?;
    let report = under_load(&mut data_centre, |data_centre| data_centre.save_configuration(3))?;
    ensure!(report.answers.contains_key("web-3"), "web-3 gave no answer: {report:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_file_given_to_apply_is_applied_and_no_request_fails() -> Result<()> {
    let mut data_centre = data_centre(THREE_WEB)?;
    let report = under_load(&mut data_centre, |data_centre| {
        let file = data_centre.bed.folder().join("other.yaml");
        fs::write(&file, data_centre.configuration(0, 3)?)?;
        data_centre.nodes[0].evenkeel(&["apply", &file.to_string_lossy()]).map(drop)
    })?;
    ensure!(report.answers.contains_key("web-3"), "web-3 gave no answer: {report:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn sighup_applies_the_file_again_and_no_request_fails() -> Result<()> {
    let mut data_centre = data_centre(Plan::WEB)?;
    let service = DataCentre::web_service();
    let loads =
        [new_connections(&data_centre.client, service), kept_connections(&data_centre.client, service)];
    let node = &mut data_centre.nodes[0];
    let before = node.status()?;
    node.signal(Signal::SIGHUP)?;
    let after = node.wait_until_reload(&before)?;
    ensure!(
        after.configuration.reloads_succeeded > before.configuration.reloads_succeeded,
        "{:?}",
        after.configuration
    );
    for load in loads {
        assert_nothing_failed(&load.stop_after(A_WHILE)?)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_bad_file_changes_nothing_and_is_reported() -> Result<()> {
    let mut data_centre = data_centre(Plan::WEB)?;
    let good = data_centre.configuration(0, 2)?;
    for bad in [good.replace("forward: nat", "forward: nut"), String::new(), ": not YAML: [".to_owned()] {
        let node = &mut data_centre.nodes[0];
        let before = node.status()?;
        node.write_configuration(&bad)?;
        let after = node.wait_until("the bad file reported", |status| {
            status.configuration.reloads_failed > before.configuration.reloads_failed
        })?;
        ensure!(!after.configuration.last_reload_errors.is_empty(), "no error for {bad:?}");
        ensure!(node.evenkeel(&["apply"]).is_err(), "apply takes {bad:?}");
        let report = new_connections(&data_centre.client, DataCentre::web_service()).stop_after(A_WHILE)?;
        assert_spread_over(&report, &["web-1", "web-2"])?;
    }
    let node = &mut data_centre.nodes[0];
    node.write_configuration(&good)?;
    node.wait_until("the good file applied", |status| status.configuration.last_reload_errors.is_empty())?;
    Ok(())
}
