//! With what the systemd unit lets the daemon do, and no more.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::status::InstanceState;
use xtask::testbed::data_centre::{DataCentre, Plan};
use xtask::workspace;

use crate::support::{A_WHILE, assert_spread_over, data_centre, new_connections};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_capabilities_of_the_unit_suffice_to_start_and_to_start_again_after_kill_9() -> Result<()> {
    let mut data_centre = data_centre(Plan { app: 1, ..Plan::WEB })?;
    let node = &mut data_centre.nodes[0];
    node.stop_daemon()?;
    // Nothing is there that was made with more.
    fs::remove_dir_all(node.host().bpf_folder()).context("cannot remove the pins")?;
    node.run_daemon_by(as_the_unit()?);
    for start in ["afresh", "over what the killed one left"] {
        let node = &mut data_centre.nodes[0];
        node.start_daemon().with_context(|| format!("started {start}"))?;
        node.wait_until_backends_are_up()?;
        node.wait_until_instances(InstanceState::Master)?;
        let web = new_connections(&data_centre.client, DataCentre::web_service()).stop_after(A_WHILE)?;
        assert_spread_over(&web, &["web-1", "web-2"])?;
        let app = new_connections(&data_centre.client, DataCentre::app_service()).stop_after(A_WHILE)?;
        assert_spread_over(&app, &["app-1"])?;
        data_centre.nodes[0].kill_daemon()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_daemon_tells_systemd_when_it_serves_and_when_it_stops() -> Result<()> {
    ensure!(settings("Type")? == ["notify"], "systemd does not listen");
    let mut data_centre = data_centre(Plan::WEB)?;
    let node = &mut data_centre.nodes[0];
    node.stop_daemon()?;
    let path = node.host().folder().join("notify");
    let systemd = UnixDatagram::bind(&path)?;
    systemd.set_read_timeout(Some(Duration::from_secs(20)))?;
    let received = || -> Result<String> {
        let mut text = [0; 64];
        let length = systemd.recv(&mut text).context("nothing is said to systemd")?;
        Ok(String::from_utf8_lossy(&text[..length]).into_owned())
    };
    node.run_daemon_by(vec!["env".to_owned(), format!("NOTIFY_SOCKET={}", path.display())]);
    node.start_daemon()?;
    assert_eq!(received()?, "READY=1");
    node.stop_daemon()?;
    assert_eq!(received()?, "STOPPING=1");
    Ok(())
}

/// setpriv with the unit's own bounding set; root has what that set has, after an exec.
fn as_the_unit() -> Result<Vec<String>> {
    let capabilities = settings("CapabilityBoundingSet")?;
    ensure!(!capabilities.is_empty(), "the unit has no CapabilityBoundingSet");
    ensure!(settings("NoNewPrivileges")? == ["yes"], "the unit has no NoNewPrivileges");
    let mut set = "-all".to_owned();
    for capability in capabilities {
        let name = capability.strip_prefix("CAP_").with_context(|| format!("{capability} is none"))?;
        set += &format!(",+{}", name.to_lowercase());
    }
    Ok(["setpriv", "--bounding-set", &set, "--inh-caps", "-all", "--no-new-privs"].map(str::to_owned).into())
}

/// What the unit sets a key to, word by word.
fn settings(key: &str) -> Result<Vec<String>> {
    let path = workspace::root().join("deploy/evenkeel.service");
    let unit = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(lines.flat_map(str::split_whitespace).map(str::to_owned).collect())
}
