//! Every event in every situation.

use super::*;

/// By name, so that the table below can be read.
const EVENTS: [&str; 13] = [
    "up",
    "down",
    "lower",
    "equal, lower address",
    "equal, higher address",
    "higher",
    "priority 0",
    "ill",
    "well",
    "yield",
    "unyield",
    "stop",
    "timeout",
];

/// What a situation becomes, and in small letters and signs what is asked for: `a` an advertisement, `0` one of priority 0,
/// `t` take and `r` release the addresses, `n` announce, `s` a second master, `>` a transition.
#[rustfmt::skip]
const TABLE: [(&str, [&str; 13]); 9] = [
    //            up          down          lower         equal <       equal >      higher       priority 0  ill           well        yield         unyield     stop         timeout
    ("Init",     ["Backup >", "Fault >",    "Init",       "Init",       "Init",      "Init",      "Init",     "Ill >",      "Init",     "Init",       "Init",     "Stopped",   "Init"]),
    ("Fault",    ["Backup >", "Fault",      "Fault",      "Fault",      "Fault",     "Fault",     "Fault",    "Fault",      "Fault",    "Fault",      "Fault",    "Stopped >", "Fault"]),
    ("Ill",      ["Ill",      "Fault",      "Ill",        "Ill",        "Ill",       "Ill",       "Ill",      "Ill",        "Backup >", "Ill",        "Ill",      "Stopped >", "Ill"]),
    ("Backup",   ["Backup",   "Fault >",    "Backup",     "Backup",     "Backup",    "Backup",    "Backup",   "Ill >",      "Backup",   "Backup",     "Backup",   "Stopped >", "Master atn>"]),
    ("Yielded",  ["Yielded",  "Fault >",    "Yielded",    "Yielded",    "Yielded",   "Yielded",   "Yielded",  "Ill >",      "Yielded",  "Yielded",    "Backup",   "Stopped >", "Master atn>"]),
    ("Master",   ["Master",   "Fault r>",   "Master asn", "Master asn", "Backup a>", "Backup a>", "Master a", "Ill 0r>",    "Master",   "Yielding 0", "Master",   "Leaving 0", "Master a"]),
    ("Yielding", ["Yielding", "Fault r>",   "Yielding",   "Yielding",   "Yielding",  "Yielding",  "Yielding", "Ill r>",     "Yielding", "Yielding",   "Yielding", "Leaving",   "Yielding 0"]),
    ("Leaving",  ["Leaving",  "Stopped r>", "Leaving",    "Leaving",    "Leaving",   "Leaving",   "Leaving",  "Stopped r>", "Leaving",  "Leaving",    "Leaving",  "Leaving",   "Leaving 0"]),
    ("Stopped",  ["Stopped",  "Stopped",    "Stopped",    "Stopped",    "Stopped",   "Stopped",   "Stopped",  "Stopped",    "Stopped",  "Stopped",    "Stopped",  "Stopped",   "Stopped"]),
];

#[test]
fn every_event_in_every_situation_does_what_the_table_says() {
    for (situation, row) in TABLE {
        for (event, expected) in EVENTS.into_iter().zip(row) {
            let mut bench = in_situation(situation);
            assert_eq!(situation_of(&bench), situation);
            meet(&mut bench, event);
            let asked: String = bench.drain().iter().map(letter).collect();
            let became = format!("{} {asked}", situation_of(&bench));
            assert_eq!(became.trim_end(), expected, "{event} in {situation}");
            let waits =
                matches!(situation_of(&bench), "Backup" | "Yielded" | "Master" | "Yielding" | "Leaving");
            assert_eq!(bench.machine.poll_timeout().is_some(), waits, "{event} in {situation}");
        }
    }
}

fn in_situation(situation: &str) -> Bench {
    let (state, events): (_, &[&str]) = match situation {
        "Init" => (Init, &[]),
        "Fault" => (Fault, &[]),
        "Ill" => (Backup, &["ill"]),
        "Backup" => (Backup, &[]),
        "Yielded" => (Master, &["yield", "lower", "timeout"]),
        "Master" => (Master, &[]),
        "Yielding" => (Master, &["yield"]),
        "Leaving" => (Master, &["stop"]),
        "Stopped" => (Init, &["stop"]),
        other => panic!("{other}"),
    };
    let mut bench = Bench::in_state(state);
    for event in events {
        meet(&mut bench, event);
    }
    bench.drain();
    bench
}

fn meet(bench: &mut Bench, event: &str) {
    let ill = |why: &str| Tracking { adjustment: 0, fault: Some(why.to_owned()) };
    let event = match event {
        "up" => up(),
        "down" => down(),
        "lower" => advert(HIGHER_ADDRESS, 50),
        "equal, lower address" => advert(LOWER_ADDRESS, 100),
        "equal, higher address" => advert(HIGHER_ADDRESS, 100),
        "higher" => advert(LOWER_ADDRESS, 101),
        "priority 0" => advert(HIGHER_ADDRESS, 0),
        "ill" => Event::Tracking(ill("the gateway is gone")),
        "well" => Event::Tracking(Tracking::default()),
        "yield" => Event::Yield,
        "unyield" => Event::Unyield,
        "stop" => Event::Stop,
        "timeout" => {
            bench.now = bench.machine.poll_timeout().unwrap_or(bench.now + SECOND);
            bench.machine.handle_timeout(bench.now);
            return;
        }
        other => panic!("{other}"),
    };
    bench.event(event);
}

fn situation_of(bench: &Bench) -> &'static str {
    let machine = &bench.machine;
    match machine.state() {
        Init if machine.stopped() => "Stopped",
        Init => "Init",
        Fault if matches!(machine.reason(), Reason::Tracking { .. }) => "Ill",
        Fault => "Fault",
        Backup if machine.yielded() => "Yielded",
        Backup => "Backup",
        Master if !machine.handing_over() => "Master",
        Master if *machine.reason() == Reason::Stopped => "Leaving",
        Master => "Yielding",
    }
}

fn letter(action: &Action) -> char {
    match action {
        Action::SendAdvert { priority: 0, .. } => '0',
        Action::SendAdvert { priority: 100, .. } => 'a',
        Action::SendAdvert { .. } => '?',
        Action::TakeAddresses => 't',
        Action::ReleaseAddresses => 'r',
        Action::Announce => 'n',
        Action::SecondMaster(_) => 's',
        Action::Transition { .. } => '>',
    }
}
