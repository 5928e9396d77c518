//! Each kind of virtual router, between Evenkeel and keepalived and between two of Evenkeel: who is master, who takes over,
//! and that each takes what the other sends.

mod other;
mod row;

use evenkeel::config::model::Version;
use evenkeel::status::InstanceState::{Backup, Master};

use crate::lab::{Lab, Running, eventually};
use other::{Kind, Other};
use row::{Row, rows};

const OWN: usize = 0;
const OTHER: usize = 1;
/// Of the other node.
const LOW: u8 = 100;
const OURS: u8 = 150;
const HIGH: u8 = 200;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn keepalived_and_evenkeel_agree_in_version_3_of_each_kind() {
    all(Version::V3, Kind::Keepalived);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn keepalived_and_evenkeel_agree_in_version_2_of_each_kind() {
    all(Version::V2, Kind::Keepalived);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_nodes_agree_in_version_3_of_each_kind() {
    all(Version::V3, Kind::Evenkeel);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_nodes_agree_in_version_2_of_each_kind() {
    all(Version::V2, Kind::Evenkeel);
}

/// Side by side, on networks of their own: most of it is waiting.
fn all(version: Version, kind: Kind) {
    std::thread::scope(|scope| {
        for row in rows(version) {
            let name = format!("{kind:?} {row:?}");
            let run = move || {
                above_the_other(row, kind);
                below_the_other(row, kind);
            };
            std::thread::Builder::new().name(name).spawn_scoped(scope, run).unwrap();
        }
    });
}

/// The first to start, and the one of higher priority.
fn above_the_other(row: Row, kind: Kind) {
    let lab = row.lab();
    let file = lab.folder.path().join("sent.pcap");
    let capture = lab.capture(OWN, "ip proto 112 or ip6 proto 112", &file);
    let mut node = lab.hosts[OWN].start(row.instance(OWN, OURS));
    node.wait_for(Master);
    let mut other = Other::start(kind, row, &lab, LOW);
    other.wait_until_backup();
    let sent = node.status().advertisements_sent;
    eventually("more of it is sent than the other would wait for", || {
        node.status().advertisements_sent > sent + 4
    });
    assert_eq!(row.holders(&lab), [OWN], "{row:?}");
    assert_eq!(other.times_master(), 0, "{row:?}: it takes what is sent");
    assert_clean(row, &node);

    node.stop();
    row.wait_for_holder(&lab, OTHER);
    let mut node = lab.hosts[OWN].start(row.instance(OWN, OURS));
    let reason = format!("took over from {} (priority {LOW}, ours is {OURS})", row.own(OTHER));
    assert_eq!(node.wait_for(Master), reason);
    row.wait_for_holder(&lab, OWN);
    assert_clean(row, &node);
    assert_eq!(node.status().second_masters, 0, "{row:?}: a preempted master is none");

    lab.cut_off(OWN);
    eventually("the other one takes over", || row.holders(&lab) == [OWN, OTHER]);
    lab.connect_again(OWN);
    row.wait_for_holder(&lab, OWN);
    assert_clean(row, &node);
    assert_eq!(node.status().transitions[&Master], 1);
    other.stop();
    node.stop();
    capture.terminate();
    row.assert_well_formed(&lab, &file);
}

/// The second to start, and the one of lower priority.
fn below_the_other(row: Row, kind: Kind) {
    let lab = row.lab();
    let mut other = Other::start(kind, row, &lab, HIGH);
    row.wait_for_holder(&lab, OTHER);
    let mut node = lab.hosts[OWN].start(row.instance(OWN, OURS));
    node.wait_for(Backup);
    eventually("the other one was heard", || node.status().advertisements_received > 4);
    assert_eq!(row.holders(&lab), [OTHER], "{row:?}");
    assert_eq!(node.status().transitions[&Master], 0);

    other = other.fail(&lab);
    let reason = node.wait_for(Master);
    assert!(reason.starts_with(&format!("no advertisement from {} (priority {HIGH})", row.own(OTHER))));
    eventually("this one takes over", || row.holders(&lab).contains(&OWN));
    other = other.recover(row, &lab);
    let reason = format!("{} has priority {HIGH}, ours is {OURS}", row.own(OTHER));
    assert_eq!(node.wait_for(Backup), reason);
    row.wait_for_holder(&lab, OTHER);

    other.stop();
    assert_eq!(node.wait_for(Master), format!("{} gave the mastership away (priority 0)", row.own(OTHER)));
    row.wait_for_holder(&lab, OWN);
    assert_clean(row, &node);
    node.stop();
    assert!(row.holders(&lab).is_empty(), "{row:?}");
}

fn assert_clean(row: Row, node: &Running) {
    let discarded = node.status().discarded;
    assert!(discarded.values().all(|&count| count == 0), "{row:?}: {discarded:?}");
}
