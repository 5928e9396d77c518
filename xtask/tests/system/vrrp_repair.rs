//! Addresses and interfaces that somebody else changes, and what a crash leaves behind.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::status::InstanceState;
use xtask::testbed::{Host, Node, Segment, TestBed, wait_for};

use crate::vrrp_bed::PATIENCE;

const OWN: &str = "192.0.2.11/24";
const VIRTUAL: [&str; 3] = ["192.0.2.10", "192.0.2.20", "2001:db8::10"];
const CONFIGURATION: &str = "vrrp:\n  - name: outside\n    interface: eth0\n    vrid: 51\n    advertise: 100ms\n    \
                             addresses: [192.0.2.10/24, 192.0.2.20/24, \"2001:db8::10/64\"]\n";

fn alone(configuration: &str) -> Result<(Node, Segment, TestBed)> {
    let bed = TestBed::for_test()?;
    let segment = bed.segment("segment")?;
    let host = bed.host("node")?;
    segment.attach(&host, "eth0", &[OWN])?;
    let mut node = Node::start(&host, configuration)?;
    node.wait_until_instances(InstanceState::Master)?;
    all_there(&host)?;
    Ok((node, segment, bed))
}

fn all_there(host: &Host) -> Result<()> {
    VIRTUAL.into_iter().try_for_each(|address| host.wait_until_it_has(address))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn addresses_that_somebody_removes_come_back_within_a_second() -> Result<()> {
    for virtual_mac in [false, true] {
        let (node, _segment, _bed) = alone(&format!("{CONFIGURATION}    virtual_mac: {virtual_mac}\n"))?;
        let host = node.host();
        let shown = host.run(["ip", "-oneline", "address", "show", "to", "192.0.2.10"])?;
        let device = shown.split_whitespace().nth(1).context("no device")?.to_owned();
        let device = device.split('@').next().unwrap_or_default();
        for words in [
            vec!["ip", "address", "del", "192.0.2.10/24", "dev", device],
            vec!["ip", "-4", "address", "flush", "dev", device, "to", "192.0.2.20/32"],
            vec!["ip", "-6", "address", "flush", "to", "2001:db8::10/128"],
            vec!["ip", "address", "flush", "dev", device, "to", "192.0.2.0/28"],
        ] {
            host.run(&words)?;
            let removed = Instant::now();
            if !virtual_mac && words.contains(&"192.0.2.0/28") {
                host.add_address("eth0", OWN)?;
            }
            all_there(host)?;
            ensure!(removed.elapsed() < Duration::from_secs(1), "{words:?}: {:?}", removed.elapsed());
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_interface_that_is_renamed_is_followed() -> Result<()> {
    for virtual_mac in [false, true] {
        let (mut node, _segment, _bed) = alone(&format!("{CONFIGURATION}    virtual_mac: {virtual_mac}\n"))?;
        let host = node.host().clone();
        for words in [["down", "", ""], ["name", "wan", ""], ["up", "", ""]] {
            let device = if words[0] == "up" { "wan" } else { "eth0" };
            let words = words.into_iter().filter(|word| !word.is_empty());
            host.run(["ip", "link", "set", "dev", device].into_iter().chain(words))?;
        }
        node.wait_until_instances(InstanceState::Master)?;
        all_there(&host)?;
        let shown = host.run(["ip", "-oneline", "address", "show"])?;
        ensure!(!shown.contains("eth0"), "{shown}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_interface_that_is_removed_and_made_again_is_followed() -> Result<()> {
    for virtual_mac in [false, true] {
        let (mut node, segment, _bed) = alone(&format!("{CONFIGURATION}    virtual_mac: {virtual_mac}\n"))?;
        let host = node.host().clone();
        host.run(["ip", "link", "del", "eth0"])?;
        node.wait_until_instances(InstanceState::Fault)?;
        node.wait_until("the reason said", |status| {
            status.instances[0].reason.contains("no interface eth0")
        })?;
        segment.attach(&host, "eth0", &[OWN])?;
        node.wait_until_instances(InstanceState::Master)?;
        all_there(&host)?;
    }
    Ok(())
}

/// What runs on a host.
fn processes(host: &Host) -> Result<Vec<i32>> {
    let pids = xtask::shell::capture(Command::new("ip").args(["netns", "pids", host.namespace()]))?;
    Ok(pids.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_a_killed_daemon_and_a_killed_guard_leave_is_adopted_or_cleaned_by_the_next() -> Result<()> {
    for virtual_mac in [false, true] {
        let configuration = format!("{CONFIGURATION}    virtual_mac: {virtual_mac}\n");
        let (mut node, _segment, _bed) = alone(&configuration)?;
        let host = node.host().clone();
        // The guard first would be started again.
        let all = processes(&host)?;
        ensure!(all.len() == 2, "a daemon and its guard: {all:?}");
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in &all {
                kill(Pid::from_raw(*pid), signal)?;
            }
        }
        node.kill_daemon()?;
        ensure!(host.has_address(VIRTUAL[0])?, "nothing is left to look at");

        // Interfaces of virtual MACs say whose they are: that of another VRID goes, with its addresses.
        if virtual_mac {
            let other = configuration.replace("vrid: 51", "vrid: 52").replace("192.0.2.20/24, ", "");
            node.write_configuration(&other)?;
        }
        node.start_daemon()?;
        node.wait_until_instances(InstanceState::Master)?;
        let shown = wait_for("what was left to go", PATIENCE, || {
            let shown = host.run(["ip", "-oneline", "address", "show"])?;
            let old = shown.contains("192.0.2.20") || shown.contains("vrrp4.51.");
            Ok((!virtual_mac || !old).then_some(shown))
        });
        let shown = shown.with_context(|| host.run(["ip", "address", "show"]).unwrap_or_default())?;
        ensure!(shown.contains(VIRTUAL[0]) && shown.contains(VIRTUAL[2]), "{shown}");
        node.stop_daemon()?;
        let shown = host.run(["ip", "-oneline", "address", "show"])?;
        ensure!(!VIRTUAL.iter().any(|address| shown.contains(address)) && !shown.contains("vrrp"), "{shown}");
    }
    Ok(())
}
