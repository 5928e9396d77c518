//! `cargo xtask bench busy`: whether a busy machine makes a backup take over without need.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::shell::{complain, tell};
use crate::status::{Instance, InstanceState};
use crate::testbed::{Host, Node, TestBed};
use crate::{build, setup};

/// The shortest that there is, and so the hardest to keep.
const ADVERTISE: Duration = Duration::from_millis(10);
/// For each CPU: more than it can run.
const BURNERS: usize = 2;

/// Loads every CPU while a pair advertises every 10 ms, and prints what changed, which should be nothing.
///
/// # Errors
/// The machine cannot be made ready, or a node changed its state.
pub fn time(json: bool, seconds: u64) -> Result<()> {
    setup::everything()?;
    build::all(false)?;
    let bed = TestBed::new("busy")?;
    let segment = bed.segment("segment")?;
    let hosts = [bed.host("first")?, bed.host("second")?];
    for (host, last) in hosts.iter().zip([11, 12]) {
        segment.attach(host, "eth0", &[&format!("192.0.2.{last}/24")])?;
    }
    let mut master = Node::start(&hosts[0], &configuration(&hosts[0], 200))?;
    let mut backup = Node::start(&hosts[1], &configuration(&hosts[1], 100))?;
    master.wait_until_instances(InstanceState::Master)?;
    backup.wait_until_instances(InstanceState::Backup)?;
    let before = [instance(&master)?, instance(&backup)?];
    complain(format_args!(
        "a pair with advertisements every {ADVERTISE:?}, every CPU loaded, for {seconds} s"
    ));
    let elapsed = under_load(Duration::from_secs(seconds))?;
    let after = [instance(&master)?, instance(&backup)?];
    let changes: Vec<u64> = before.iter().zip(&after).map(|(before, after)| changes(before, after)).collect();
    let sent = after[0].advertisements_sent - before[0].advertisements_sent;
    let heard = after[1].advertisements_received - before[1].advertisements_received;
    let due = elapsed.as_millis() / ADVERTISE.as_millis();
    if json {
        tell(format_args!(
            "{:#}",
            json!({
                "seconds": elapsed.as_secs(), "advertisements_due": due as u64, "sent": sent, "heard": heard,
                "state_changes": { "master": changes[0], "backup": changes[1] },
            })
        ));
    } else {
        tell(format_args!(
            "{} s: {sent} advertisements sent of {due} due, {heard} heard; state changes: master {}, backup {}",
            elapsed.as_secs(),
            changes[0],
            changes[1]
        ));
    }
    ensure!(changes == [0, 0], "a busy machine made a node change its state");
    Ok(())
}

fn configuration(host: &Host, priority: u8) -> String {
    format!(
        "node: {}\nvrrp:\n  - {{ name: outside, interface: eth0, vrid: 51, priority: {priority}, advertise: 10ms, \
         addresses: [192.0.2.10/24] }}\n",
        host.name()
    )
}

fn instance(node: &Node) -> Result<Instance> {
    node.status()?.instances.into_iter().next().context("the node has no instance")
}

fn changes(before: &Instance, after: &Instance) -> u64 {
    let sum = |transitions: &BTreeMap<InstanceState, u64>| transitions.values().sum::<u64>();
    sum(&after.transitions) - sum(&before.transitions)
}

/// Computes on every CPU for so long.
fn under_load(time: Duration) -> Result<Duration> {
    let over = AtomicBool::new(false);
    let burners = thread::available_parallelism()?.get() * BURNERS;
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..burners {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    Ok(began.elapsed())
}
