use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::config::model::{Effect, Script};

const NAMES: [&str; 2] = ["outside", "inside"];

fn interface() -> Subject {
    Subject::Interface("eth1".to_owned())
}

fn file() -> Subject {
    Subject::File(PathBuf::from("/run/weight"))
}

fn service(min_backends: u32) -> Subject {
    Subject::Service { name: "web".to_owned(), min_backends }
}

fn script(rise: u32, fall: u32) -> Subject {
    let (every, timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    Subject::Script(Script { command: vec!["/bin/check".to_owned()], user: None, every, timeout, rise, fall })
}

fn track(subject: Subject, effect: Effect) -> Track {
    Track { subject, effect }
}

fn machine(tracks: &[Track]) -> Machine {
    let mut machine = Machine::default();
    machine.configure(BTreeMap::from([("outside".to_owned(), tracks.to_vec())]), UNIX_EPOCH);
    machine
}

fn well() -> Finding {
    Finding::Well("is well".to_owned())
}

fn ill() -> Finding {
    Finding::Ill("is ill".to_owned())
}

fn number(number: i32) -> Finding {
    Finding::Number(number, format!("is {number}"))
}

#[test]
fn what_is_found_does_what_the_effect_says() {
    use Effect::{Fault, Weight};
    let interface_rows = [
        (Fault, None, 0, false, true),
        (Fault, Some(well()), 0, false, true),
        (Fault, Some(ill()), 0, true, false),
        (Weight(-60), None, 0, false, true),
        (Weight(-60), Some(well()), 0, false, true),
        (Weight(-60), Some(ill()), -60, false, false),
        (Weight(20), None, 20, false, true),
        (Weight(20), Some(well()), 20, false, true),
        (Weight(20), Some(ill()), 0, false, false),
    ];
    let file_rows = [
        (Fault, None, 0, false, true),
        (Fault, Some(number(0)), 0, false, true),
        (Fault, Some(number(-1)), 0, true, false),
        (Weight(2), Some(number(0)), 0, false, true),
        (Weight(2), Some(number(30)), 60, false, true),
        (Weight(2), Some(number(-30)), -60, false, false),
        (Weight(-2), Some(number(30)), -60, false, false),
        (Weight(253), Some(number(i32::MAX)), 254, false, true),
        (Weight(253), Some(number(i32::MIN)), -254, false, false),
    ];
    let rows = interface_rows.map(|row| (interface(), row)).into_iter();
    for (subject, row) in rows.chain(file_rows.map(|row| (file(), row))) {
        let what = format!("{subject:?} {row:?}");
        let (effect, finding, adjustment, fault, ok) = row;
        let mut machine = machine(&[track(subject.clone(), effect)]);
        if let Some(finding) = finding {
            machine.handle_finding(&subject, finding, UNIX_EPOCH);
        }
        let state = machine.state("outside");
        assert_eq!((state.adjustment, state.fault.is_some()), (adjustment, fault), "{what}");
        assert_eq!(state.subjects[0].ok, ok, "{what}");
    }
}

#[test]
fn a_state_names_every_subject_and_every_reason_of_a_fault() {
    let tracks = [
        track(interface(), Effect::Fault),
        track(file(), Effect::Fault),
        track(script(1, 1), Effect::Weight(-60)),
        track(service(2), Effect::Weight(20)),
        track(Subject::Gateway(None), Effect::Fault),
    ];
    let mut machine = machine(&tracks);
    let at = |second| UNIX_EPOCH + Duration::from_secs(second);
    machine.handle_finding(&interface(), ill(), at(1));
    machine.handle_finding(&file(), number(3), at(2));
    machine.handle_finding(&script(1, 1), ill(), at(3));
    machine.handle_finding(&script(1, 1), ill(), at(4));
    let state = machine.state("outside");
    assert_eq!(state.fault.as_deref(), Some("interface eth1: is ill; file /run/weight: is 3"));
    assert_eq!(state.adjustment, -40);
    let rows: Vec<_> = state
        .subjects
        .iter()
        .map(|tracked| (tracked.subject.as_str(), tracked.effect.as_str(), tracked.since))
        .collect();
    let wanted = [
        ("interface eth1", "fault", at(1)),
        ("file /run/weight", "fault unless 0", at(2)),
        ("script /bin/check", "-60", at(3)),
        ("service web with 2 backends", "+20", at(0)),
        ("default gateway", "fault", at(0)),
    ];
    assert_eq!(rows, wanted);
    assert_eq!(machine.state("no such group"), TrackState::default());
}

#[test]
fn what_members_of_a_group_track_alike_counts_once_and_what_they_track_otherwise_adds_up() {
    let tracks = [-10, -10, -20].map(|weight| track(interface(), Effect::Weight(weight)));
    let mut machine = machine(&tracks);
    machine.handle_finding(&interface(), ill(), UNIX_EPOCH);
    let state = machine.state("outside");
    assert_eq!((state.adjustment, state.subjects.len()), (-30, 2));
}

#[test]
fn a_service_is_unknown_until_its_checks_decide_and_then_stays_what_it_was() {
    let rows = [
        ((0, 3), Standing::Unknown),
        ((1, 1), Standing::Unknown),
        ((2, 0), Standing::Well),
        ((1, 1), Standing::Well),
        ((1, 0), Standing::Ill),
        ((1, 5), Standing::Ill),
        ((3, 0), Standing::Well),
    ];
    let mut machine = machine(&[track(service(2), Effect::Fault)]);
    let mut standing = Standing::Unknown;
    for ((up, checking), wanted) in rows {
        for change in machine.handle_service("web", up, checking, UNIX_EPOCH) {
            assert_eq!(change.from, standing);
            standing = change.to;
        }
        assert_eq!(standing, wanted, "{up} up, {checking} checking");
    }
    // A new threshold is judged at once, by what is known.
    let groups = BTreeMap::from([("outside".to_owned(), vec![track(service(4), Effect::Fault)])]);
    machine.configure(groups, UNIX_EPOCH);
    assert_eq!(
        machine.state("outside").fault.as_deref(),
        Some("service web with 4 backends: 3 up, 4 needed")
    );
}

#[test]
fn reconfiguring_keeps_what_was_found_of_what_stays() {
    let mut machine = machine(&[track(script(2, 2), Effect::Fault), track(interface(), Effect::Fault)]);
    machine.handle_finding(&script(2, 2), ill(), UNIX_EPOCH);
    machine.handle_finding(&interface(), ill(), UNIX_EPOCH);
    let tracks = vec![track(script(1, 3), Effect::Weight(-5)), track(file(), Effect::Fault)];
    machine.configure(BTreeMap::from([("inside".to_owned(), tracks)]), UNIX_EPOCH);
    assert_eq!(machine.state("outside"), TrackState::default());
    let state = machine.state("inside");
    assert_eq!((state.adjustment, state.fault), (-5, None));
    assert_eq!(machine.handle_finding(&interface(), ill(), UNIX_EPOCH), None, "nobody tracks it");
}

proptest! {
    #[test]
    fn a_script_is_what_its_history_says(
        history in prop::collection::vec(any::<bool>(), 1..100),
        rise in 0_u32..5,
        fall in 0_u32..5,
    ) {
        let subject = script(rise, fall);
        let mut machine = machine(&[track(subject.clone(), Effect::Fault)]);
        let mut expected = None;
        for (index, &passed) in history.iter().enumerate() {
            machine.handle_finding(&subject, if passed { well() } else { ill() }, UNIX_EPOCH);
            let in_a_row = history[..=index].iter().rev().take_while(|&&p| p == passed).count();
            expected = match (expected, passed) {
                (None, passed) => Some(passed),
                (Some(true), false) if in_a_row >= fall.max(1) as usize => Some(false),
                (Some(false), true) if in_a_row >= rise.max(1) as usize => Some(true),
                (state, _) => state,
            };
            prop_assert_eq!(machine.state("outside").fault.is_some(), expected == Some(false));
        }
    }

    #[test]
    fn groups_hear_only_of_their_own_subjects_and_sums_do_not_depend_on_the_order(
        weights in prop::collection::vec((-253_i16..=253, any::<bool>()), 0..20),
    ) {
        let subject = |index: usize| Subject::Process(format!("p{index}"));
        let mut groups = BTreeMap::from(NAMES.map(|name| (name.to_owned(), Vec::new())));
        for (index, (weight, _)) in weights.iter().enumerate() {
            let group = groups.get_mut(NAMES[index % 2]).unwrap();
            group.push(track(subject(index), Effect::Weight(*weight)));
        }
        let mut machine = Machine::default();
        machine.configure(groups, UNIX_EPOCH);
        for (index, (_, fails)) in weights.iter().enumerate().rev() {
            machine.handle_finding(&subject(index), if *fails { ill() } else { well() }, UNIX_EPOCH);
            let subject = subject(index);
            prop_assert_eq!(machine.groups_of(&subject).collect::<Vec<_>>(), [NAMES[index % 2]]);
        }
        for (parity, name) in NAMES.iter().enumerate() {
            let own = weights.iter().skip(parity).step_by(2);
            let sum: i32 = own.map(|(weight, fails)| i32::from(if *fails { *weight.min(&0) } else { *weight.max(&0) })).sum();
            prop_assert_eq!(machine.state(name).adjustment, sum);
        }
    }
}

#[tokio::test]
async fn groups_are_told_of_changes_and_the_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weight");
    let groups = |names: &[&str]| {
        let tracks =
            vec![track(Subject::File(path.clone()), Effect::Weight(2)), track(service(1), Effect::Fault)];
        names.iter().map(|name| ((*name).to_owned(), tracks.clone())).collect::<BTreeMap<_, _>>()
    };
    let mut trackers = Trackers::new();
    trackers.configure(groups(&NAMES));
    let mut outside = trackers.state("outside").unwrap();
    let mut inside = trackers.state("inside").unwrap();
    assert!(trackers.state("no such group").is_none());
    let limit = Duration::from_secs(30);

    std::fs::write(&path, "-7\n").unwrap();
    for state in [&mut outside, &mut inside] {
        let told = state.wait_for(|state| state.adjustment == -14);
        tokio::time::timeout(limit, told).await.unwrap().unwrap();
    }
    trackers.service("web", 0, 0);
    assert!(outside.borrow().fault.is_some(), "told before the call returns");

    trackers.configure(groups(&["outside"]));
    assert!(inside.wait_for(|_| false).await.is_err(), "its group is gone");
    assert_eq!(outside.borrow().adjustment, -14, "what stays is kept");
    std::fs::remove_file(&path).unwrap();
    let told = outside.wait_for(|state| state.adjustment == 0);
    tokio::time::timeout(limit, told).await.unwrap().unwrap();
    let details: BTreeSet<_> =
        outside.borrow().subjects.iter().map(|tracked| tracked.detail.clone()).collect();
    assert!(details.contains("absent, taken for 0"), "{details:?}");
}
