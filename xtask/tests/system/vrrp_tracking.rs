//! What an instance's priority depends on, as the YAML names it and as both nodes show it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use xtask::status::{Instance, InstanceState};
use xtask::testbed::{Host, Node};

use crate::vrrp_bed::{Pair, SERVICES, group, instance};

/// A pair of which only the first node tracks this.
fn tracked(what: impl Fn(&Host) -> Result<String>) -> Result<Pair> {
    Pair::build(|index, host| {
        let track = if index == 0 { format!("track: [{}]", what(host)?) } else { String::new() };
        Ok(group(index, &[&track]) + SERVICES)
    })
}

/// Where a script lies that root agrees to run: nobody else can change it or the folders it is in.
fn script(host: &Host, name: &str, text: &str) -> Result<PathBuf> {
    let path = host.folder().join(name);
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, &path)?;
    Ok(path)
}

/// The other node is master, and both say why; what is tracked makes the priority of the first 90.
fn assert_outvoted(pair: &mut Pair, subject: &str) -> Result<()> {
    pair.wait_until_master(1)?;
    let ours = instance(&pair.nodes[0], "outside")?;
    ensure!(ours.priority == 90 && ours.configured_priority == 150, "{ours:?}");
    ensure!(ours.reason.contains("192.0.2.12 has priority 100, ours is 90"), "{ours:?}");
    let tracked = found(&ours, subject)?;
    ensure!(!tracked, "{ours:?}");
    let theirs = instance(&pair.nodes[1], "outside")?;
    ensure!(
        theirs.reason.contains("took over from ") && theirs.reason.contains("(priority 90, ours is 100)"),
        "{theirs:?}"
    );
    let shown = pair.nodes[0].evenkeel(&["status"])?;
    ensure!(shown.contains(subject), "{shown}");
    Ok(())
}

fn found(instance: &Instance, subject: &str) -> Result<bool> {
    let tracked = instance.tracked.iter().find(|tracked| tracked.subject.contains(subject));
    Ok(tracked.with_context(|| format!("{subject} is not tracked: {:?}", instance.tracked))?.ok)
}

/// The first node is in fault for this reason, and the other has taken over.
fn assert_faulty(pair: &mut Pair, why: &str) -> Result<()> {
    pair.nodes[1].wait_until_instances(InstanceState::Master)?;
    pair.nodes[0].wait_until_instances(InstanceState::Fault)?;
    pair.wait_until_no_virtual_address_on(0)?;
    for name in ["outside", "inside"] {
        let ours = instance(&pair.nodes[0], name)?;
        ensure!(ours.reason.contains(why), "{ours:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_script_that_fails_lowers_the_priority_until_it_succeeds_again() -> Result<()> {
    let mut pair = tracked(|host| {
        let path = script(host, "well", "exit 0")?;
        Ok(format!("{{ script: {}, every: 200ms, fall: 2, rise: 2, weight: -60 }}", path.display()))
    })?;
    let host = pair.nodes[0].host().clone();
    script(&host, "well", "exit 3")?;
    assert_outvoted(&mut pair, "well")?;
    script(&host, "well", "exit 0")?;
    pair.wait_until_master(0)?;
    ensure!(instance(&pair.nodes[0], "outside")?.priority == 150, "the priority stays low");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_script_without_weight_that_fails_or_hangs_is_a_fault() -> Result<()> {
    let mut pair = tracked(|host| {
        let path = script(host, "well", "exit 0")?;
        Ok(format!("{{ script: {}, every: 300ms, timeout: 200ms, fall: 1, rise: 1 }}", path.display()))
    })?;
    let host = pair.nodes[0].host().clone();
    for bad in ["exit 1", "trap '' TERM; sleep 60 & wait; sleep 60"] {
        script(&host, "well", bad)?;
        assert_faulty(&mut pair, "well").with_context(|| bad.to_owned())?;
        script(&host, "well", "exit 0")?;
        pair.wait_until_master(0)?;
    }
    Ok(())
}

fn put(path: &Path, number: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, number)?;
    Ok(fs::rename(&new, path)?)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_number_in_a_file_moves_the_mastership() -> Result<()> {
    let path = |host: &Host| host.folder().join("weight");
    let mut pair = tracked(|host| Ok(format!("{{ file: {}, weight: -20 }}", path(host).display())))?;
    let file = path(pair.nodes[0].host());
    put(&file, "3\n")?;
    assert_outvoted(&mut pair, "weight")?;
    put(&file, "0\n")?;
    pair.wait_until_master(0)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_process_that_ends_is_a_fault_until_it_runs_again() -> Result<()> {
    // Processes of all the host's namespaces are seen: a name that no other test has.
    let name = format!("ektrack{}", std::process::id());
    let folder = std::env::temp_dir().join(&name);
    fs::create_dir_all(&folder)?;
    let program = folder.join(&name);
    fs::copy("/bin/sleep", &program)?;
    let start = || -> Result<_> { Ok(Command::new(&program).arg("600").spawn()?) };
    let mut running = start()?;
    let tested = (|| {
        let mut pair = tracked(|_| Ok(format!("{{ process: {name} }}")))?;
        running.kill()?;
        running.wait()?;
        assert_faulty(&mut pair, &name)?;
        running = start()?;
        pair.wait_until_master(0)
    })();
    let _ = running.kill();
    let _ = running.wait();
    let _ = fs::remove_dir_all(&folder);
    tested
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_node_that_does_not_reach_enough_backends_leaves_the_mastership_to_one_that_does() -> Result<()> {
    let mut pair = Pair::build(|index, _| {
        Ok(group(index, &["track: [{ service: web, min_backends: 2, weight: -60 }]"]) + SERVICES)
    })?;
    // One server no longer answers the first node; its checks fail there only.
    let from = ["ip", "route", "add", "blackhole", "10.0.0.2/32"];
    pair.web[0].run(from)?;
    assert_outvoted(&mut pair, "web")?;
    ensure!(found(&instance(&pair.nodes[1], "outside")?, "web")?, "the other node misses backends too");
    pair.web[0].run(["ip", "route", "del", "blackhole", "10.0.0.2/32"])?;
    pair.wait_until_master(0)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn carrier_of_a_tracked_interface_moves_the_mastership() -> Result<()> {
    let mut pair = Pair::build(|index, host| {
        if index == 0 {
            host.run(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "plug"])?;
            host.run(["ip", "link", "set", "uplink", "up"])?;
            host.run(["ip", "link", "set", "plug", "up"])?;
        }
        let track = if index == 0 { "track: [{ interface: uplink, weight: -60 }]" } else { "" };
        Ok(group(index, &[track]) + SERVICES)
    })?;
    let host = pair.nodes[0].host().clone();
    host.run(["ip", "link", "set", "plug", "down"])?;
    assert_outvoted(&mut pair, "uplink")?;
    host.run(["ip", "link", "set", "plug", "up"])?;
    pair.wait_until_master(0)?;
    host.run(["ip", "link", "del", "uplink"])?;
    assert_outvoted(&mut pair, "uplink")
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_node_without_its_gateway_is_in_fault() -> Result<()> {
    let mut pair = Pair::build(|index, host| {
        host.add_route("default", "192.0.2.100")?;
        let track = if index == 0 { "track: [{ gateway: default }]" } else { "" };
        Ok(group(index, &[track]) + SERVICES)
    })?;
    // Only the first node asks for it.
    pair.client.run(["ip", "link", "set", "dev", "eth0", "arp", "off"])?;
    assert_faulty(&mut pair, "192.0.2.100")?;
    pair.client.run(["ip", "link", "set", "dev", "eth0", "arp", "on"])?;
    pair.wait_until_master(0)
}

/// Whatever fails: the other node's priority counts.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_weight_that_leaves_this_node_the_better_one_moves_nothing() -> Result<()> {
    let path = |host: &Host| host.folder().join("weight");
    let mut pair = tracked(|host| Ok(format!("{{ file: {}, weight: -20 }}", path(host).display())))?;
    put(&path(pair.nodes[0].host()), "1\n")?;
    let lowered = |node: &mut Node| {
        node.wait_until("priority 130", |status| {
            status.instances.iter().all(|instance| instance.priority == 130)
        })
    };
    lowered(&mut pair.nodes[0])?;
    pair.wait_until_master(0)
}
