//! Addresses at the virtual router's own MAC address, with the XDP program on the same interfaces.

use std::thread;

use anyhow::{Result, ensure};
use xtask::status::InstanceState;
use xtask::testbed::Capture;

use crate::support::{A_WHILE, assert_nothing_failed, assert_spread_over, counted, new_connections};
use crate::vrrp_bed::{DIRECT, NAT, Pair, service};

/// Of VRID 51, over IPv4.
const OUTSIDE_MAC: &str = "00:00:5e:00:01:33";

fn neighbour(pair: &Pair) -> Result<String> {
    pair.client.run(["ip", "neighbour", "show", NAT])
}

fn assert_served(pair: &Pair) -> Result<()> {
    let report = new_connections(&pair.client, service(NAT)).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["web-1", "web-2"])?;
    assert_nothing_failed(&new_connections(&pair.client, service(DIRECT)).stop_after(A_WHILE)?)?;
    let entry = neighbour(pair)?;
    ensure!(entry.contains(OUTSIDE_MAC), "{entry}");
    Ok(())
}

/// Requests of clients that this node's XDP program has passed on.
fn forwarded(pair: &Pair, index: usize) -> Result<u64> {
    Ok(pair.nodes[index].status()?.services.iter().map(|service| service.traffic.packets).sum())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_pair_with_virtual_mac_serves_and_moves_without_a_change_to_a_neighbour_table() -> Result<()> {
    let mut pair = Pair::grouped(&["virtual_mac: true"])?;
    assert_served(&pair)?;
    ensure!(forwarded(&pair, 0)? > 0, "the kernel forwards, not XDP");
    ensure!(forwarded(&pair, 1)? == 0, "the backup forwards");
    let before = forwarded(&pair, 1)?;
    pair.nodes[0].kill_daemon()?;
    pair.nodes[1].wait_until_instances(InstanceState::Master)?;
    pair.wait_until_no_virtual_address_on(0)?;
    assert_served(&pair)?;
    ensure!(forwarded(&pair, 1)? > before, "the kernel forwards, not XDP");

    pair.nodes[0].start_daemon()?;
    pair.wait_until_master(0)?;
    pair.nodes[0].wait_until_backends_are_up()?;
    assert_served(&pair)?;

    let host = pair.nodes[0].host().clone();
    pair.outside.set_cable(&host, "eth0", false)?;
    pair.nodes[1].wait_until_instances(InstanceState::Master)?;
    assert_served(&pair)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_planned_failover_with_virtual_mac_loses_nothing() -> Result<()> {
    let mut pair = Pair::grouped(&["virtual_mac: true"])?;
    let adverts = Capture::start(&pair.client, "eth0", "ip proto 112 and src host 192.0.2.12")?;
    let clients = pair.start_clients()?;
    thread::sleep(A_WHILE);
    pair.nodes[0].evenkeel(&["failover", "outside"])?;
    pair.wait_until_master(1)?;
    thread::sleep(A_WHILE);
    let adverts = adverts.finish_with_frames()?;
    let virtual_mac = [0, 0, 0x5e, 0, 1, 51];
    let from_it: Vec<bool> = adverts.iter().map(|frame| frame.bytes[6..12] == virtual_mac).collect();
    // A switch would learn it before the address is there.
    ensure!(!from_it[0] && from_it[1..].iter().all(|from_it| *from_it), "{from_it:?}");
    thread::sleep(A_WHILE);
    pair.nodes[0].evenkeel(&["failover", "--undo", "outside"])?;
    pair.wait_until_master(0)?;
    thread::sleep(A_WHILE);
    clients.finish(2)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_backup_forwards_nothing_that_arrives_for_the_virtual_mac() -> Result<()> {
    let mut pair = Pair::grouped(&["virtual_mac: true"])?;
    // A switch that does not know where the address is gives everything to everybody.
    pair.outside.switch().run(["ip", "link", "set", "bridge", "type", "bridge", "ageing_time", "0"])?;
    let load = new_connections(&pair.client, service(NAT));
    assert_nothing_failed(&load.stop_after(A_WHILE)?)?;
    let seen = counted(&pair.nodes[1], "not_master")?;
    ensure!(seen > 0, "nothing arrived at the backup");
    let forwarded = forwarded(&pair, 1)?;
    ensure!(forwarded == 0, "the backup forwarded {forwarded} packets of {seen} that arrived");
    pair.wait_until_master(0)
}
