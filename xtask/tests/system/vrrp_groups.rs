//! Instances that belong together.

use std::thread;

use anyhow::{Result, ensure};
use xtask::status::InstanceState;

use crate::support::{A_WHILE, assert_nothing_failed, connect, new_connections};
use crate::vrrp_bed::{NAT, Pair, SERVICES, instance, instances, service};
use xtask::testbed::clients::Client as _;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn when_one_link_of_the_master_dies_both_addresses_move_and_connections_by_nat_go_on() -> Result<()> {
    // A node whose link is back has the backends down for a while: without this it would take over at once, and reset.
    let mut pair = Pair::grouped(&["track: [{ service: web, weight: -60 }]"])?;
    for (interface, other) in [("eth0", "inside"), ("eth1", "outside")] {
        let mut connections = Vec::new();
        for _ in 0..8 {
            connections.push(connect(&pair.client, service(NAT))?);
        }
        let host = pair.nodes[0].host().clone();
        let segment = if interface == "eth0" { &pair.outside } else { &pair.inside };
        segment.set_cable(&host, interface, false)?;
        pair.nodes[1].wait_until_instances(InstanceState::Master)?;
        pair.nodes[0].wait_until_instances(InstanceState::Fault)?;
        pair.wait_until_no_virtual_address_on(0)?;
        // The instance whose own link works says whose does not.
        let reason = instance(&pair.nodes[0], other)?.reason;
        ensure!(reason.contains(&format!("interface {interface} is down")), "{reason}");
        let load = new_connections(&pair.client, service(NAT));
        for (connection, server) in &mut connections {
            ensure!(connection.ask()? == *server, "it is with another server now");
        }
        assert_nothing_failed(&load.stop_after(A_WHILE)?)?;

        let segment = if interface == "eth0" { &pair.outside } else { &pair.inside };
        segment.set_cable(&host, interface, true)?;
        pair.wait_until_master(0)?;
        pair.nodes[0].wait_until_backends_are_up()?;
        // While its way to the backends was dead, its checks had them down: `down: reset` ends what it knew of.
        if interface == "eth0" {
            for (connection, server) in &mut connections {
                ensure!(connection.ask()? == *server, "it is with another server now");
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_a_group_only_the_instance_on_the_dead_link_moves() -> Result<()> {
    let mut pair = Pair::build(|index, _| Ok(instances(index, &[]) + SERVICES))?;
    let host = pair.nodes[0].host().clone();
    pair.outside.set_cable(&host, "eth0", false)?;
    pair.nodes[1].wait_until("outside master", |status| {
        status.instances.iter().any(|one| one.name == "outside" && one.state == InstanceState::Master)
    })?;
    thread::sleep(A_WHILE);
    ensure!(instance(&pair.nodes[0], "inside")?.state == InstanceState::Master, "inside moved too");
    Ok(())
}
