//! `cargo xtask bench reload`: what a reload does to the advertisements of the instances that it does not touch.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::setup;
use crate::shell::tell;
use crate::status::{InstanceState, Status};
use crate::testbed::capture::{Capture, Frame};
use crate::testbed::{Node, TestBed};

/// Instances that stay; one more comes or goes with each reload.
const STAY: u8 = 249;
/// VRIDs of the instances that take turns.
const TURNS: [u8; 2] = [250, 251];
const INTERVAL: Duration = Duration::from_millis(100);
/// An advertisement this soon after the last one is one too many.
const EARLY: Duration = Duration::from_millis(50);
/// Bytes of the configuration for each instance; what an instance needs not is a comment.
const BYTES: usize = 1024;

/// How long to listen, and how often to reload.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub quiet: Duration,
    pub reloads: usize,
    /// From one reload to the next.
    pub pause: Duration,
}

impl Plan {
    pub const WHOLE: Self =
        Self { quiet: Duration::from_secs(15), reloads: 5, pause: Duration::from_secs(3) };
}

/// Of the instances that stay, as a third host on the segment sees them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Gaps {
    pub advertisements: usize,
    /// Between two advertisements of the same VRID.
    pub median_ms: f64,
    pub p999_ms: f64,
    pub longest_ms: f64,
    pub shortest_ms: f64,
    /// Advertisements less than 50 ms after the last one of their VRID.
    pub early: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub instances: usize,
    pub configuration_bytes: usize,
    pub reloads: usize,
    pub without: Gaps,
    pub during: Gaps,
    /// Times that an instance that stays went to another state, on either node.
    pub transitions: u64,
}

/// Measures, and prints a table, or JSON.
///
/// # Errors
/// The machine cannot be made ready, or an instance does not become what it should be.
pub fn time(json: bool) -> Result<()> {
    setup::everything()?;
    crate::build::all(false)?;
    let figures = measure(Plan::WHOLE)?;
    let text = if json { serde_json::to_string_pretty(&figures)? } else { table(&figures)? };
    tell(text);
    Ok(())
}

/// Two nodes with [`STAY`] + 1 instances on one interface; one of these is exchanged for another, on both nodes, with each
/// reload.
///
/// # Errors
/// An instance does not become what it should be, or nothing is seen on the wire.
pub fn measure(plan: Plan) -> Result<Figures> {
    let bed = TestBed::new("reload")?;
    let segment = bed.segment("segment")?;
    let ear = bed.host("ear")?;
    segment.attach(&ear, "eth0", &["192.0.2.100/24"])?;
    let mut nodes = Vec::new();
    for (index, name) in ["lb-a", "lb-b"].into_iter().enumerate() {
        let host = bed.host(name)?;
        segment.attach(&host, "eth0", &[&format!("192.0.2.1{}/24", index + 1)])?;
        nodes.push(Node::start(&host, &configuration(index, TURNS[0])?)?);
        let wanted = if index == 0 { InstanceState::Master } else { InstanceState::Backup };
        nodes[index].wait_until_instances(wanted)?;
    }
    thread::sleep(plan.pause);
    let before = transitions(&nodes)?;

    let quiet = Capture::start(&ear, "eth0", "ip proto 112")?;
    thread::sleep(plan.quiet);
    let without = gaps(&quiet.finish_with_frames()?)?;

    let busy = Capture::start(&ear, "eth0", "ip proto 112")?;
    for turn in 1..=plan.reloads {
        let vrid = TURNS[turn % 2];
        for (index, node) in nodes.iter_mut().enumerate() {
            let status = node.status()?;
            node.write_configuration(&configuration(index, vrid)?)?;
            let after = node.wait_until_reload(&status)?.configuration;
            ensure!(after.last_reload_errors.is_empty(), "{:?}", after.last_reload_errors);
        }
        thread::sleep(plan.pause);
    }
    let during = gaps(&busy.finish_with_frames()?)?;
    let after = transitions(&nodes)?;
    Ok(Figures {
        instances: usize::from(STAY) + 1,
        configuration_bytes: configuration(0, TURNS[0])?.len(),
        reloads: plan.reloads,
        without,
        during,
        transitions: after.saturating_sub(before),
    })
}

fn configuration(index: usize, turn: u8) -> Result<String> {
    let mut text = "vrrp:\n".to_owned();
    let priority = 150 - 50 * index;
    for vrid in (1..=STAY).chain([turn]) {
        let begin = text.len();
        write!(
            text,
            "  - name: router-{vrid}\n    \
               interface: eth0\n    \
               vrid: {vrid}\n    \
               priority: {priority}\n    \
               advertise: 100ms\n    \
               addresses: [10.1.{vrid}.1/24]\n    # "
        )?;
        let fill = BYTES.saturating_sub(text.len() - begin + 1);
        text.extend(std::iter::repeat_n('.', fill));
        text.push('\n');
    }
    Ok(text)
}

/// Of the instances that stay, on all nodes.
fn transitions(nodes: &[Node]) -> Result<u64> {
    let count = |status: Status| -> u64 {
        let stay = status.instances.into_iter().filter(|instance| instance.vrid <= STAY);
        stay.map(|instance| instance.transitions.values().sum::<u64>()).sum()
    };
    nodes.iter().map(|node| Ok(count(node.status()?))).sum()
}

/// Of the advertisements of node `lb-a`.
fn gaps(frames: &[Frame]) -> Result<Gaps> {
    let mut last: BTreeMap<u8, Duration> = BTreeMap::new();
    let mut gaps = Vec::new();
    for frame in frames {
        let Some(vrid) = advertised(&frame.bytes).filter(|vrid| *vrid <= STAY) else { continue };
        if let Some(before) = last.insert(vrid, frame.at) {
            gaps.push(frame.at.saturating_sub(before));
        }
    }
    gaps.sort_unstable();
    let at = |part: f64| gaps.get(((gaps.len() as f64 - 1.0) * part) as usize).copied();
    let ms = |gap: Option<Duration>| -> Result<f64> {
        Ok(gap.context("no advertisement was seen")?.as_secs_f64() * 1e3)
    };
    ensure!(last.len() == usize::from(STAY), "advertisements of {} VRIDs only were seen", last.len());
    Ok(Gaps {
        advertisements: gaps.len(),
        median_ms: ms(at(0.5))?,
        p999_ms: ms(at(0.999))?,
        longest_ms: ms(gaps.last().copied())?,
        shortest_ms: ms(gaps.first().copied())?,
        early: gaps.iter().filter(|gap| **gap < EARLY).count(),
    })
}

/// The VRID of an advertisement of `lb-a` (RFC 9568 section 5.2), behind Ethernet and an IPv4 header.
fn advertised(frame: &[u8]) -> Option<u8> {
    let packet = frame.get(14..)?;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    (packet.get(12..16)? == [192, 0, 2, 11]).then_some(())?;
    packet.get(header + 1).copied()
}

fn table(figures: &Figures) -> Result<String> {
    let mut text = format!(
        "{} instances at {} ms, {} KiB of configuration, {} reloads: {} transitions of instances that stay\n\n\
         gap between advertisements of one VRID, ms\n\
         {:<16} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6}\n",
        figures.instances,
        INTERVAL.as_millis(),
        figures.configuration_bytes / 1024,
        figures.reloads,
        figures.transitions,
        "",
        "adverts",
        "shortest",
        "median",
        "99.9 %",
        "longest",
        "early"
    );
    for (name, gaps) in [("without reloads", figures.without), ("during reloads", figures.during)] {
        writeln!(
            text,
            "{name:<16} {:>8} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>6}",
            gaps.advertisements, gaps.shortest_ms, gaps.median_ms, gaps.p999_ms, gaps.longest_ms, gaps.early
        )?;
    }
    Ok(text)
}
