//! Forwarding method `nat`, through real nginx.

use anyhow::Result;
use xtask::testbed::Capture;
use xtask::testbed::data_centre::{DataCentre, Plan};

use crate::support::{
    A_WHILE, ONE_ARM_SERVICE, OneArm, assert_nothing_failed, assert_spread_over, data_centre, datagrams,
    kept_connections, large_answers, large_uploads, new_connections,
};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_arms_new_connections_spread_over_the_servers() -> Result<()> {
    let data_centre = data_centre(Plan::WEB)?;
    let report = new_connections(&data_centre.client, DataCentre::web_service()).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["web-1", "web-2"])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_arms_every_checksum_is_right_at_the_client_and_at_the_servers() -> Result<()> {
    let data_centre = data_centre(Plan::WEB)?;
    let captures = [&data_centre.client, &data_centre.web[0].host, &data_centre.web[1].host]
        .map(|host| Capture::start(host, "eth0", "tcp port 80"));
    let service = DataCentre::web_service();
    let loads = [new_connections(&data_centre.client, service), large_answers(&data_centre.client, service)];
    for load in loads {
        assert_nothing_failed(&load.stop_after(A_WHILE)?)?;
    }
    for capture in captures {
        capture?.finish_with_good_checksums()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_arms_uploads_in_segments_of_full_size_arrive_with_good_checksums() -> Result<()> {
    let data_centre = data_centre(Plan::WEB)?;
    let at_server = Capture::start(&data_centre.web[0].host, "eth0", "tcp dst port 80")?;
    let report = large_uploads(&data_centre.client, DataCentre::web_service()).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["web-1", "web-2"])?;
    at_server.finish_with_good_checksums()?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_arm_connections_of_every_kind_are_answered() -> Result<()> {
    let one_arm = OneArm::build("nat")?;
    let captures =
        [&one_arm.client, &one_arm.servers[0].host].map(|host| Capture::start(host, "eth0", "tcp port 80"));
    let report = new_connections(&one_arm.client, ONE_ARM_SERVICE).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["s1", "s2"])?;
    assert_nothing_failed(&kept_connections(&one_arm.client, ONE_ARM_SERVICE).stop_after(A_WHILE)?)?;
    assert_nothing_failed(&large_answers(&one_arm.client, ONE_ARM_SERVICE).stop_after(A_WHILE)?)?;
    for capture in captures {
        capture?.finish_with_good_checksums()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_arm_datagrams_spread_and_are_answered_with_good_checksums() -> Result<()> {
    let one_arm = OneArm::build("nat")?;
    let captures =
        [&one_arm.client, &one_arm.servers[0].host].map(|host| Capture::start(host, "eth0", "udp port 53"));
    assert_spread_over(&datagrams(&one_arm.client)?.stop_after(A_WHILE)?, &["s1", "s2"])?;
    for capture in captures {
        capture?.finish_with_good_checksums()?;
    }
    Ok(())
}
