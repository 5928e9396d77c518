//! The state machine, event by event.

mod stop;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::machine::{Action, Config, Event, Heard, Interface, Machine, Peer, Reason};
use crate::config::model::Priority;
use crate::status::InstanceState::{self, Backup, Fault, Init, Master};

const SECOND: Duration = Duration::from_secs(1);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const LOWER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
/// Greater as a number, smaller as text.
const HIGHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 40);

/// A machine, its clock, and what it asked for since last asked.
struct Bench {
    machine: Machine,
    start: Instant,
    now: Instant,
}

fn config(priority: u8) -> Config {
    Config {
        interface: "eth0".to_owned(),
        priority: Priority::new(priority).unwrap(),
        interval: SECOND,
        preempt: true,
    }
}

impl Bench {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(config), start: now, now }
    }

    fn in_state(state: InstanceState) -> Self {
        let mut bench = Self::new(config(100));
        match state {
            Init => {}
            Fault => bench.event(Event::Interface(Interface::Down)),
            Backup => bench.event(up()),
            Master => {
                bench.event(up());
                bench.run_for(5 * SECOND);
            }
        }
        bench.drain();
        assert_eq!(bench.machine.state(), state);
        bench
    }

    fn event(&mut self, event: Event) {
        self.machine.handle_event(event, self.now);
    }

    fn hear(&mut self, address: Ipv4Addr, priority: u8) {
        self.event(advert(address, priority));
    }

    /// Lets time pass, with each timeout exactly when due; collects actions with their times since the start.
    fn run_for(&mut self, duration: Duration) -> Vec<(Duration, Action)> {
        let end = self.now + duration;
        let mut actions = self.timed();
        while let Some(due) = self.machine.poll_timeout().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
            actions.extend(self.timed());
        }
        self.now = end;
        actions
    }

    fn timed(&mut self) -> Vec<(Duration, Action)> {
        let at = self.now - self.start;
        self.drain().into_iter().map(|action| (at, action)).collect()
    }

    fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.poll_action()).collect()
    }

    fn sent_in(&mut self, duration: Duration) -> Vec<Duration> {
        let sent = |(at, action)| matches!(action, Action::SendAdvert { .. }).then_some(at);
        self.run_for(duration).into_iter().filter_map(sent).collect()
    }

    /// When it becomes master, if it is left alone, since now.
    fn takeover_after(&mut self) -> Duration {
        let from = self.now;
        while self.machine.state() != Master {
            self.now = self.machine.poll_timeout().expect("a backup waits for something");
            self.machine.handle_timeout(self.now);
        }
        self.now - from
    }
}

fn up() -> Event {
    Event::Interface(Interface::Up { primary: OWN })
}

fn advert(address: Ipv4Addr, priority: u8) -> Event {
    Event::Advert(Heard { from: Peer { address, priority }, interval: SECOND })
}

fn send(priority: u8) -> Action {
    Action::SendAdvert { priority }
}

/// Skew and down interval of RFC 9568 section 6.1 for priority 100 and one second.
const SKEW: Duration = Duration::from_micros(609_375);
const DOWN: Duration = Duration::from_micros(3_609_375);

#[test]
fn every_event_in_every_state_leads_where_the_table_says() {
    let down = || Event::Interface(Interface::Down);
    let table = [
        (Init, up(), Backup),
        (Init, down(), Fault),
        (Init, advert(HIGHER_ADDRESS, 200), Init),
        (Init, advert(HIGHER_ADDRESS, 0), Init),
        (Init, Event::Stop, Init),
        (Fault, up(), Backup),
        (Fault, down(), Fault),
        (Fault, Event::Interface(Interface::Missing), Fault),
        (Fault, advert(HIGHER_ADDRESS, 200), Fault),
        (Fault, advert(HIGHER_ADDRESS, 0), Fault),
        (Fault, Event::Stop, Init),
        (Backup, up(), Backup),
        (Backup, down(), Fault),
        (Backup, Event::Interface(Interface::Missing), Fault),
        (Backup, Event::Interface(Interface::NoAddress), Fault),
        (Backup, Event::Interface(Interface::Unusable("no".into())), Fault),
        (Backup, advert(LOWER_ADDRESS, 50), Backup),
        (Backup, advert(LOWER_ADDRESS, 100), Backup),
        (Backup, advert(HIGHER_ADDRESS, 200), Backup),
        (Backup, advert(HIGHER_ADDRESS, 0), Backup),
        (Backup, Event::Stop, Init),
        (Master, up(), Master),
        (Master, down(), Fault),
        (Master, Event::Interface(Interface::Missing), Fault),
        (Master, Event::Interface(Interface::NoAddress), Fault),
        (Master, advert(HIGHER_ADDRESS, 50), Master),
        (Master, advert(LOWER_ADDRESS, 100), Master),
        (Master, advert(HIGHER_ADDRESS, 100), Backup),
        (Master, advert(LOWER_ADDRESS, 101), Backup),
        (Master, advert(HIGHER_ADDRESS, 0), Master),
        (Master, Event::Stop, Master),
    ];
    for (from, event, to) in table {
        let mut bench = Bench::in_state(from);
        bench.event(event.clone());
        assert_eq!(bench.machine.state(), to, "{event:?} in {from:?}");
        let moved = bench.drain().into_iter().any(|action| matches!(action, Action::Transition { .. }));
        assert_eq!(moved, from != to, "{event:?} in {from:?}");
        let released = from == Master && to != Master;
        assert_eq!(bench.machine.poll_timeout().is_some(), matches!(to, Backup | Master));
        let mut again = Bench::in_state(from);
        again.event(event.clone());
        assert_eq!(again.drain().contains(&Action::ReleaseAddresses), released, "{event:?} in {from:?}");
    }
}

#[test]
fn alone_it_becomes_master_after_the_down_interval_and_advertises_every_interval() {
    let mut bench = Bench::new(config(100));
    bench.event(up());
    let actions = bench.run_for(DOWN + 2 * SECOND);
    let transition = |from, to, reason| Action::Transition { from, to, reason };
    let listening = Reason::Listening { interface: "eth0".into() };
    let silence = Reason::Silence { master: None, lasted: DOWN };
    assert_eq!(
        actions,
        [
            (Duration::ZERO, transition(Init, Backup, listening)),
            (DOWN, send(100)),
            (DOWN, Action::TakeAddresses),
            (DOWN, Action::Announce),
            (DOWN, transition(Backup, Master, silence)),
            (DOWN + SECOND, send(100)),
            (DOWN + 2 * SECOND, send(100)),
        ]
    );
}

#[test]
fn a_master_announces_once_more_after_five_seconds() {
    let mut bench = Bench::new(config(100));
    bench.event(up());
    let actions = bench.run_for(60 * SECOND);
    let announced: Vec<_> =
        actions.iter().filter(|(_, action)| *action == Action::Announce).map(|(at, _)| *at).collect();
    assert_eq!(announced, [DOWN, DOWN + 5 * SECOND]);
}

#[test]
fn the_owner_is_master_at_once() {
    for preempt in [true, false] {
        let mut bench = Bench::new(Config { preempt, ..config(255) });
        bench.event(up());
        assert_eq!(bench.machine.state(), Master);
        assert_eq!(bench.drain()[..3], [send(255), Action::TakeAddresses, Action::Announce]);
    }
}

#[test]
fn a_backup_counts_by_the_interval_that_the_master_tells() {
    let mut bench = Bench::in_state(Backup);
    let from = Peer { address: LOWER_ADDRESS, priority: 200 };
    bench.event(Event::Advert(Heard { from, interval: SECOND / 100 }));
    assert_eq!(bench.takeover_after(), DOWN / 100);
    let silence = Reason::Silence { master: Some(from), lasted: DOWN / 100 };
    assert_eq!(*bench.machine.reason(), silence);
    assert_eq!(silence.to_string(), "no advertisement from 10.0.0.4 (priority 200) for 0.04 s");
}

#[test]
fn a_backup_of_equal_priority_stays_whatever_the_address() {
    for address in [LOWER_ADDRESS, HIGHER_ADDRESS] {
        let mut bench = Bench::in_state(Backup);
        bench.run_for(3 * SECOND);
        bench.hear(address, 100);
        assert_eq!(bench.takeover_after(), DOWN);
    }
}

#[test]
fn a_master_of_lower_priority_is_preempted_only_if_configured() {
    let mut bench = Bench::in_state(Backup);
    bench.run_for(3 * SECOND);
    bench.hear(HIGHER_ADDRESS, 99);
    assert_eq!(bench.takeover_after(), SKEW);
    assert_eq!(bench.machine.reason().to_string(), "10.0.0.40 is master with priority 99, ours is 100");

    let mut bench = Bench::new(Config { preempt: false, ..config(100) });
    bench.event(up());
    bench.run_for(3 * SECOND);
    bench.hear(HIGHER_ADDRESS, 99);
    assert_eq!(bench.takeover_after(), DOWN);
}

#[test]
fn a_master_that_stops_is_succeeded_after_the_skew() {
    let mut bench = Bench::in_state(Backup);
    bench.hear(HIGHER_ADDRESS, 200);
    bench.run_for(SECOND / 2);
    bench.hear(HIGHER_ADDRESS, 0);
    // A copy doesn't put it off.
    bench.run_for(SECOND / 2);
    bench.hear(HIGHER_ADDRESS, 0);
    assert_eq!(bench.takeover_after() + SECOND / 2, SKEW);
    assert_eq!(bench.machine.reason().to_string(), "10.0.0.40 stopped");
}

#[test]
fn another_node_that_stops_starts_no_election() {
    let mut bench = Bench::in_state(Backup);
    bench.hear(HIGHER_ADDRESS, 200);
    bench.hear(LOWER_ADDRESS, 0);
    assert_eq!(bench.takeover_after(), DOWN);
}

#[test]
fn a_master_answers_one_that_stops_or_has_lower_priority_at_once_and_keeps_its_rhythm() {
    for priority in [0, 50] {
        let mut bench = Bench::in_state(Master);
        let undisturbed = bench.machine.poll_timeout();
        bench.run_for(SECOND / 4);
        bench.hear(HIGHER_ADDRESS, priority);
        assert_eq!(bench.drain()[0], send(100));
        assert_eq!(bench.machine.poll_timeout(), undisturbed);
    }
}

#[test]
fn a_second_master_is_told_once_announced_against_and_forgotten_when_silent() {
    let mut bench = Bench::in_state(Master);
    let peer = Peer { address: HIGHER_ADDRESS, priority: 50 };
    bench.run_for(10 * SECOND);
    bench.hear(peer.address, peer.priority);
    assert_eq!(bench.drain(), [send(100), Action::SecondMaster(peer), Action::Announce]);
    assert!(bench.machine.second_master(bench.now));
    bench.run_for(SECOND / 2);
    bench.hear(peer.address, peer.priority);
    assert_eq!(bench.drain(), [send(100)]);
    bench.run_for(4 * SECOND);
    assert!(!bench.machine.second_master(bench.now));
    bench.hear(peer.address, peer.priority);
    assert!(bench.drain().contains(&Action::SecondMaster(peer)));
}

#[test]
fn a_flood_of_claims_makes_a_master_send_no_more_than_the_shortest_interval_allows() {
    let mut bench = Bench::in_state(Master);
    bench.run_for(10 * SECOND);
    let mut actions = Vec::new();
    for _ in 0..10_000 {
        bench.hear(HIGHER_ADDRESS, 50);
        actions.extend(bench.run_for(Duration::from_micros(100)));
    }
    let count = |wanted: &Action| actions.iter().filter(|(_, action)| action == wanted).count();
    assert!((50..=102).contains(&count(&send(100))), "{} adverts in a second", count(&send(100)));
    assert!(count(&Action::Announce) <= 2);
}

#[test]
fn a_master_that_steps_back_says_why() {
    let mut bench = Bench::in_state(Master);
    bench.hear(LOWER_ADDRESS, 150);
    assert_eq!(bench.drain()[0], Action::ReleaseAddresses);
    assert_eq!(bench.machine.reason().to_string(), "10.0.0.4 has priority 150, ours is 100");

    let mut bench = Bench::in_state(Master);
    bench.hear(HIGHER_ADDRESS, 100);
    assert_eq!(
        bench.machine.reason().to_string(),
        "10.0.0.40 (priority 100) has our priority and a higher address than 10.0.0.5"
    );
}

#[test]
fn a_fault_says_what_is_wrong_and_ends_with_it() {
    let mut bench = Bench::in_state(Master);
    bench.event(Event::Interface(Interface::Down));
    assert_eq!(bench.drain()[0], Action::ReleaseAddresses);
    assert_eq!(bench.machine.reason().to_string(), "interface eth0 is down");
    bench.event(Event::Interface(Interface::Missing));
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.machine.reason().to_string(), "there is no interface eth0");
    bench.event(up());
    assert_eq!(bench.takeover_after(), DOWN);
}

#[test]
fn a_reload_neither_delays_nor_repeats_an_advertisement() {
    let untouched: Vec<_> = Bench::in_state(Master).sent_in(20 * SECOND);
    let mut bench = Bench::in_state(Master);
    let mut sent = Vec::new();
    for reload in 0..200_u32 {
        let priority = Priority::new(if reload % 2 == 0 { 120 } else { 100 }).unwrap();
        let preempt = reload % 3 == 0;
        bench.machine.reconfigure(Config { priority, preempt, ..config(100) }, bench.now);
        sent.extend(bench.sent_in(SECOND / 10));
    }
    assert_eq!(sent, untouched);
}

#[test]
fn a_longer_interval_starts_after_the_advertisement_that_tells_it() {
    let mut bench = Bench::in_state(Master);
    let due = bench.machine.poll_timeout();
    bench.machine.reconfigure(Config { interval: 10 * SECOND, ..config(100) }, bench.now);
    assert_eq!(bench.machine.poll_timeout(), due);
    let sent = bench.sent_in(12 * SECOND);
    assert_eq!(sent[1] - sent[0], 10 * SECOND);
}

#[test]
fn a_shorter_interval_counts_from_the_last_advertisement() {
    let mut bench = Bench::in_state(Master);
    let last = bench.machine.poll_timeout().unwrap() - SECOND;
    bench.machine.reconfigure(Config { interval: SECOND / 10, ..config(100) }, bench.now);
    assert_eq!(bench.machine.poll_timeout(), Some(last + SECOND / 10));
}

#[test]
fn a_new_priority_moves_a_running_down_timer_by_its_skew_only() {
    let mut bench = Bench::in_state(Backup);
    bench.run_for(2 * SECOND);
    let priority = Priority::new(200).unwrap();
    bench.machine.reconfigure(Config { priority, ..config(100) }, bench.now);
    let skew = SECOND * 56 / 256;
    assert_eq!(bench.takeover_after(), SECOND + skew);
}

#[test]
fn a_late_timeout_sends_one_advertisement_and_a_spurious_one_none() {
    let mut bench = Bench::in_state(Master);
    bench.run_for(10 * SECOND);
    bench.now += 7 * SECOND;
    bench.machine.handle_timeout(bench.now);
    assert_eq!(bench.drain(), [send(100)]);
    bench.machine.handle_timeout(bench.now);
    assert_eq!(bench.drain(), []);
}
