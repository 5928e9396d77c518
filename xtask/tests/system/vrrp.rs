//! A mastership that is given away on purpose, and a master that is stopped: no client notices.

use std::process::Output;
use std::thread;

use anyhow::{Result, ensure};
use xtask::status::InstanceState;
use xtask::testbed::Node;

use crate::support::A_WHILE;
use crate::vrrp_bed::{Pair, instance};

fn failover(node: &Node, words: &[&str]) -> Result<Output> {
    let mut command = node.host().command(xtask::workspace::evenkeel()?);
    Ok(command.arg("failover").args(words).arg("--run-dir").arg(node.run_dir()).output()?)
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn failover_by_command_and_its_undoing_lose_nothing() -> Result<()> {
    let mut pair = Pair::grouped(&[])?;
    let clients = pair.start_clients()?;
    thread::sleep(A_WHILE);

    let said = failover(&pair.nodes[0], &["outside"])?;
    ensure!(said.status.code() == Some(0), "{:?}: {}", said.status, text(&said.stderr));
    for words in ["outside: backup now", "192.0.2.12", "--undo outside"] {
        ensure!(text(&said.stdout).contains(words), "{words}: {}", text(&said.stdout));
    }
    pair.wait_until_master(1)?;
    thread::sleep(A_WHILE);
    for name in ["outside", "inside"] {
        let ours = instance(&pair.nodes[0], name)?;
        ensure!(ours.state == InstanceState::Backup && ours.stands_back && ours.priority == 150, "{ours:?}");
        ensure!(ours.reason.contains("evenkeel failover"), "{ours:?}");
        let theirs = instance(&pair.nodes[1], name)?;
        ensure!(theirs.state == InstanceState::Master && theirs.priority == 100, "{theirs:?}");
        ensure!(theirs.reason.contains("gave the mastership away"), "{theirs:?}");
    }

    let said = failover(&pair.nodes[0], &["--undo", "outside"])?;
    ensure!(said.status.code() == Some(0), "{:?}: {}", said.status, text(&said.stderr));
    pair.wait_until_master(0)?;
    thread::sleep(A_WHILE);
    clients.finish(2)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn failover_where_there_is_nothing_to_give_says_why() -> Result<()> {
    let pair = Pair::grouped(&[])?;
    let said = failover(&pair.nodes[1], &["outside"])?;
    ensure!(said.status.code() == Some(1), "{:?}", said.status);
    ensure!(text(&said.stderr).contains("outside is backup, not master"), "{}", text(&said.stderr));

    let said = failover(&pair.nodes[0], &["outsider"])?;
    ensure!(said.status.code() == Some(1), "{:?}", said.status);
    let words = text(&said.stderr);
    ensure!(words.contains("no instance outsider") && words.contains("outside, inside"), "{words}");

    let said = failover(&pair.nodes[1], &["--json", "outside"])?;
    let json: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    ensure!(said.status.code() == Some(1) && json["ok"] == false, "{json}");
    ensure!(json["lines"][0].as_str().is_some_and(|line| line.contains("not master")), "{json}");

    let said = failover(&pair.nodes[0], &["inside", "--json"])?;
    let json: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    ensure!(said.status.code() == Some(0) && json["ok"] == true, "{json}");
    ensure!(json["lines"][0].as_str().is_some_and(|line| line.contains("backup now")), "{json}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn failover_without_another_node_leaves_this_one_master() -> Result<()> {
    let mut pair = Pair::grouped(&[])?;
    pair.nodes[1].stop_daemon()?;
    let clients = pair.start_clients()?;
    let said = failover(&pair.nodes[0], &["outside"])?;
    ensure!(said.status.code() == Some(1), "{:?}", said.status);
    ensure!(text(&said.stderr).contains("no other node took outside over"), "{}", text(&said.stderr));
    ensure!(instance(&pair.nodes[0], "outside")?.state == InstanceState::Master, "it is no longer master");
    clients.finish(0)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_clean_stop_and_the_preemption_after_the_start_lose_nothing() -> Result<()> {
    let mut pair = Pair::grouped(&[])?;
    let clients = pair.start_clients()?;
    thread::sleep(A_WHILE);
    pair.nodes[0].stop_daemon()?;
    pair.nodes[1].wait_until_instances(InstanceState::Master)?;
    pair.wait_until_no_virtual_address_on(0)?;
    thread::sleep(A_WHILE);
    pair.nodes[0].start_daemon()?;
    pair.wait_until_master(0)?;
    thread::sleep(A_WHILE);
    clients.finish(2)
}
