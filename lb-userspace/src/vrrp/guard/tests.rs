use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::net::address::Address;
use crate::net::route::Route;
use crate::net::rule::Rule;
use crate::vrrp::thing::ArpSetting;

fn held(last: u8) -> Thing {
    Thing::Address(Address { index: 2, address: IpAddr::from([192, 0, 2, last]), length: 24 })
}

/// A guard that appends what it is told to the file, after its own process id.
fn scribe(file: &Path) -> Guard {
    let script = "echo $$ >> \"$0\"; exec cat >> \"$0\"".into();
    start_program("/bin/sh".into(), vec!["-c".into(), script, file.into()]).unwrap()
}

fn wait_for_lines(file: &Path, count: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.lines().count() >= count && text.ends_with('\n') {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "never {count} lines: {text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_guard_that_ends_is_replaced_without_being_needed_and_told_what_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("told");
    let guard = scribe(&file);
    guard.hold(&[held(1)]);
    guard.hold(&[held(2)]);
    guard.release(&[held(1)]);
    for round in 1_usize.. {
        let lines = wait_for_lines(&file, 2 + 2 * round);
        assert_eq!(
            *lines.last().unwrap(),
            if round == 1 { told(Line::Release(held(1))) } else { told(Line::Hold(held(2))) }
        );
        if round == 3 {
            break;
        }
        let pid = lines.iter().rev().find_map(|line| line.parse().ok()).unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn what_is_held_twice_is_told_once_and_released_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("told");
    let guard = scribe(&file);
    guard.hold(&[held(1), held(2)]);
    guard.hold(&[held(1)]);
    guard.release(&[held(1), held(3)]);
    let lines = wait_for_lines(&file, 4);
    assert_eq!(still_held(lines[1..].join("\n").as_bytes()), BTreeSet::from([held(2)]));
    assert_eq!(lines.len(), 4);
}

fn told(line: Line) -> String {
    serde_json::to_string(&line).unwrap()
}

#[test]
fn what_was_held_and_not_released_is_left_whatever_cuts_the_pipe() {
    let lines = [Line::Hold(held(1)), Line::Hold(held(2)), Line::Release(held(1)), Line::Hold(held(3))];
    let text = lines.map(told).join("\n");
    assert_eq!(still_held(text.as_bytes()), BTreeSet::from([held(2), held(3)]));
    assert_eq!(still_held(&text.as_bytes()[..text.len() - 1]), BTreeSet::from([held(2)]));
    assert_eq!(still_held(io::empty()), BTreeSet::new());
}

#[test]
fn each_kind_of_thing_is_told_so_that_the_guard_understands() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let things = BTreeSet::from([
        held(1),
        Thing::Macvlan("vrrp6.51.2".into()),
        Thing::Rule(Rule {
            v6: false,
            from: Some((address("203.0.113.10"), 32)),
            to: None,
            table: 100,
            priority: 9,
        }),
        Thing::Route(Route {
            to: (address("::"), 0),
            via: Some(address("fe80::1")),
            index: Some(2),
            source: None,
            metric: 1024,
            table: 254,
        }),
        Thing::Arp { index: 2, setting: ArpSetting::Announce, before: 0 },
    ]);
    let lines: Vec<Line> = things.iter().cloned().map(Line::Hold).collect();
    assert_eq!(still_held(text(&lines).unwrap().as_slice()), things);
}
