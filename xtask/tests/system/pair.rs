//! Two nodes.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use xtask::status::InstanceState;
use xtask::testbed::data_centre::{DataCentre, GATEWAY, NAT_ADDRESS, Plan, TUNNEL_ADDRESS};
use xtask::testbed::servers::Keepalived;
use xtask::testbed::{Node, TestBed};

use crate::support::{A_WHILE, assert_nothing_failed, assert_spread_over, data_centre, new_connections};

const VIRTUAL: [Ipv4Addr; 3] = [NAT_ADDRESS, TUNNEL_ADDRESS, GATEWAY];

/// The other node answers for everything, the first holds no address.
fn assert_taken_over(data_centre: &mut DataCentre) -> Result<()> {
    data_centre.nodes[1].wait_until_instances(InstanceState::Master)?;
    for address in VIRTUAL {
        let host = data_centre.nodes[0].host();
        ensure!(!host.has_address(&address.to_string())?, "{address} is on {}", host.name());
    }
    let report = new_connections(&data_centre.client, DataCentre::web_service()).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["web-1", "web-2"])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn after_kill_9_of_the_master_the_other_answers_and_no_address_is_left_on_the_dead() -> Result<()> {
    let mut data_centre = data_centre(Plan::PAIR)?;
    data_centre.nodes[0].kill_daemon()?;
    assert_taken_over(&mut data_centre)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_master_that_is_stopped_hands_over_and_takes_back_when_it_returns() -> Result<()> {
    let mut data_centre = data_centre(Plan::PAIR)?;
    data_centre.nodes[0].stop_daemon()?;
    assert_taken_over(&mut data_centre)?;

    data_centre.nodes[0].start_daemon()?;
    data_centre.nodes[0].wait_until_instances(InstanceState::Master)?;
    data_centre.nodes[1].wait_until_instances(InstanceState::Backup)?;
    for address in VIRTUAL {
        data_centre.nodes[1].host().wait_until_it_lacks(&address.to_string())?;
    }
    data_centre.nodes[0].wait_until_backends_are_up()?;
    assert_nothing_failed(
        &new_connections(&data_centre.client, DataCentre::web_service()).stop_after(A_WHILE)?,
    )
}

const ADDRESS: &str = "192.0.2.10";

#[test]
#[ignore = "needs root: cargo xtask test"]
fn keepalived_is_backup_to_evenkeel_and_takes_over_when_it_stops() -> Result<()> {
    let bed = TestBed::for_test()?;
    let segment = bed.segment("segment")?;
    let (ours, theirs) = (bed.host("ours")?, bed.host("theirs")?);
    segment.attach(&ours, "eth0", &["192.0.2.11/24"])?;
    segment.attach(&theirs, "eth0", &["192.0.2.12/24"])?;
    let mut keepalived = Keepalived::start(
        &theirs,
        "global_defs { vrrp_version 3 }\n\
         vrrp_instance outside {\n\
           interface eth0\n\
           state BACKUP\n\
           virtual_router_id 51\n\
           priority 100\n\
           advert_int 0.5\n\
           virtual_ipaddress { 192.0.2.10/24 }\n\
         }\n",
    )?;
    theirs.wait_until_it_has(ADDRESS)?;

    let mut node = Node::start(
        &ours,
        "vrrp:\n  \
           - name: outside\n    \
             interface: eth0\n    \
             vrid: 51\n    \
             priority: 150\n    \
             advertise: 500ms\n    \
             addresses: [192.0.2.10/24]\n",
    )?;
    node.wait_until_instances(InstanceState::Master)?;
    theirs.wait_until_it_lacks(ADDRESS)?;
    ours.wait_until_it_has(ADDRESS)?;
    keepalived.process.still_runs()?;

    node.stop_daemon()?;
    theirs.wait_until_it_has(ADDRESS)?;
    ours.wait_until_it_lacks(ADDRESS)
}
