//! Who is told of transitions.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use xtask::status::InstanceState;
use xtask::testbed::{Host, wait_for};

use crate::vrrp_bed::{PATIENCE, Pair, SERVICES, group};

fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// The folder is anybody's to write to, the scripts are not in it.
fn folder_for_nobody(host: &Host) -> Result<std::path::PathBuf> {
    let folder = host.folder().join("told");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_script_and_the_fifo_are_told_of_all_transitions_in_order_while_another_script_hangs() -> Result<()> {
    let mut pair = Pair::build(|index, host| {
        let told = folder_for_nobody(host)?.join("told");
        let (script, hanging) = (host.folder().join("tell"), host.folder().join("hang"));
        let line = "\"$(id -un) $* $EVENKEEL_FROM $EVENKEEL_STATE $EVENKEEL_REASON\"";
        executable(&script, &format!("sleep 0.1\necho {line} >> {}", told.display()))?;
        executable(&hanging, "trap '' TERM\nsleep 600 & wait\nsleep 600")?;
        let hooks = format!(
            "hooks:\n  scripts: [{{ run: [{}, extra], timeout: 5s }}, {{ run: {}, timeout: 60s }}]\n  fifo: {}\n",
            script.display(),
            hanging.display(),
            host.folder().join("fifo").display()
        );
        Ok(hooks + &group(index, &[]) + SERVICES)
    })?;
    let host = pair.nodes[0].host().clone();

    for _ in 0..3 {
        let asked = Instant::now();
        pair.nodes[0].evenkeel(&["failover", "outside"])?;
        pair.nodes[0].evenkeel(&["failover", "--undo", "outside"])?;
        pair.wait_until_master(0)?;
        ensure!(asked.elapsed() < PATIENCE, "a hook held the election up");
    }

    // To backup and to master, for each of two instances; three times there and back.
    let transitions = 2 * (2 + 3 * 2);
    let told = host.folder().join("told/told");
    let lines = wait_for("all transitions told to the script", PATIENCE, || {
        let text = fs::read_to_string(&told).unwrap_or_default();
        Ok((text.lines().count() >= transitions).then_some(text))
    })?;
    for name in ["outside", "inside"] {
        let of_it: Vec<&str> =
            lines.lines().filter(|line| line.starts_with(&format!("nobody extra {name} "))).collect();
        ensure!(of_it.len() == transitions / 2, "{lines}");
        ensure!(of_it[0].starts_with(&format!("nobody extra {name} backup 150 init backup ")), "{of_it:?}");
        for (number, line) in of_it.iter().enumerate().skip(1) {
            let wanted =
                if number % 2 == 1 { "master 150 backup master " } else { "backup 150 master backup " };
            ensure!(line.starts_with(&format!("nobody extra {name} {wanted}")), "{number}: {of_it:#?}");
        }
        ensure!(of_it[2].contains("evenkeel failover"), "no reason: {of_it:?}");
    }

    let mut fifo = read_fifo(&host)?;
    fifo.sort_by_key(|line| line.0 != "outside");
    let states: Vec<&str> =
        fifo.iter().filter(|line| line.0 == "outside").map(|line| line.1.as_str()).collect();
    ensure!(
        states == ["backup", "master", "backup", "master", "backup", "master", "backup", "master"],
        "{fifo:?}"
    );
    ensure!(fifo.iter().all(|line| !line.2.is_empty()), "without a reason: {fifo:?}");
    pair.nodes[0].stop_daemon()?;
    pair.nodes[1].wait_until_instances(InstanceState::Master).map(drop)
}

/// Instance, state and reason of all that wait in the FIFO of node 0.
fn read_fifo(host: &Host) -> Result<Vec<(String, String, String)>> {
    let file = fs::File::open(host.folder().join("fifo")).context("no FIFO")?;
    let lines = BufReader::new(file).lines().take(16);
    let lines = thread::spawn(move || lines.collect::<std::io::Result<Vec<String>>>());
    wait_for("16 lines in the FIFO", PATIENCE, || Ok(lines.is_finished().then_some(())))?;
    let lines = lines.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let parse = |line: &String| -> Result<_> {
        let json: serde_json::Value = serde_json::from_str(line)?;
        let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        Ok((word("instance"), word("state"), word("reason")))
    };
    lines.iter().map(parse).collect()
}
