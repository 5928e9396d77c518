//! Forwarding method `tunnel`, to servers that run `evenkeel decap`.

use anyhow::Result;
use xtask::testbed::Capture;
use xtask::testbed::data_centre::{DataCentre, Plan};

use crate::support::{
    A_WHILE, assert_nothing_failed, assert_spread_over, data_centre, large_answers, large_uploads,
    new_connections,
};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn tunnelled_connections_are_answered_straight_to_the_client() -> Result<()> {
    let data_centre = data_centre(Plan { app: 2, ..Plan::WEB })?;
    let server = &data_centre.app[0].host;
    let at_client = Capture::start(&data_centre.client, "eth0", "tcp port 80")?;
    let answers_at_server = Capture::start(server, "eth1", "tcp src port 80")?;
    let answers_inside = Capture::start(server, "eth0", "tcp src port 80 and src host 192.0.2.20")?;

    let service = DataCentre::app_service();
    let report = new_connections(&data_centre.client, service).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["app-1", "app-2"])?;
    assert_nothing_failed(&large_answers(&data_centre.client, service).stop_after(A_WHILE)?)?;

    at_client.finish_with_good_checksums()?;
    answers_at_server.finish_with_good_checksums()?;
    assert_eq!(answers_inside.finish()?.packets, 0, "answers go back through the node");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn uploads_arrive_though_every_segment_lacks_the_room_for_the_tunnel_header_at_first() -> Result<()> {
    let data_centre = data_centre(Plan { app: 2, ..Plan::WEB })?;
    let report = large_uploads(&data_centre.client, DataCentre::app_service()).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["app-1", "app-2"])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_tunnel_header_on_the_wire_is_right() -> Result<()> {
    let data_centre = data_centre(Plan { app: 1, ..Plan::WEB })?;
    // On the switch: the server's own XDP program takes the header off before a capture there sees it.
    let at_switch = Capture::start(data_centre.inside.switch(), "app-1.eth0", "ip proto 4")?;
    let report = new_connections(&data_centre.client, DataCentre::app_service()).stop_after(A_WHILE)?;
    assert_nothing_failed(&report)?;
    at_switch.finish_with_good_checksums()?;
    Ok(())
}
