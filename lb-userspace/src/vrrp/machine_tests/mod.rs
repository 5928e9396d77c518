//! The state machine, event by event.

mod groups;
mod hand_over;
mod patience;
mod preemption;
mod reconfigure;
mod stop;
mod table;
mod tracking;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::machine::{
    Action, Channel, Config, Event, Family, Heard, Interface, Machine, Peer, Reason, Tracking,
};
use crate::config::model::{Preempt, Priority, Version, Vrid};
use crate::status::InstanceState::{self, Backup, Fault, Init, Master};

const SECOND: Duration = Duration::from_secs(1);
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
const LOWER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
/// Greater as a number, smaller as text.
const HIGHER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 40));

/// A machine, its clock, and what it asked for since last asked.
struct Bench {
    machine: Machine,
    start: Instant,
    now: Instant,
}

fn config(priority: u8) -> Config {
    Config {
        priority: Priority::new(priority).unwrap(),
        preempt: Preempt::After(Duration::ZERO),
        channels: vec![channel(SECOND)],
        announce_every: None,
    }
}

fn channel(interval: Duration) -> Channel {
    Channel {
        interface: "eth0".to_owned(),
        vrid: Vrid::new(7).unwrap(),
        family: Family::V4,
        version: Version::V3,
        interval,
    }
}

fn every(interval: Duration, priority: u8) -> Config {
    Config { channels: vec![channel(interval)], ..config(priority) }
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
            Fault => bench.event(down()),
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

    fn hear(&mut self, address: IpAddr, priority: u8) {
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
            let due = self.machine.poll_timeout().expect("a backup waits for something");
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
        }
        self.now - from
    }
}

fn up() -> Event {
    interface(Interface::Up { primary: OWN })
}

fn down() -> Event {
    interface(Interface::Down)
}

fn interface(interface: Interface) -> Event {
    Event::Interface { channel: 0, interface }
}

fn adjusted(adjustment: i32) -> Event {
    Event::Tracking(Tracking { adjustment, fault: None })
}

fn advert(address: IpAddr, priority: u8) -> Event {
    Event::Advert { channel: 0, heard: claim(address, priority, SECOND) }
}

fn claim(address: IpAddr, priority: u8, interval: Duration) -> Heard {
    Heard { from: Peer { address, priority }, interval }
}

fn send(priority: u8) -> Action {
    Action::SendAdvert { channel: 0, priority }
}

/// Skew and down interval of RFC 9568 section 6.1 for priority 100 and one second.
const SKEW: Duration = Duration::from_micros(609_375);
const DOWN: Duration = Duration::from_micros(3_609_375);

#[test]
fn alone_it_becomes_master_after_the_down_interval_and_advertises_every_interval() {
    let mut bench = Bench::new(config(100));
    bench.event(up());
    let actions = bench.run_for(DOWN + 2 * SECOND);
    let transition = |from, to, reason| Action::Transition { from, to, reason };
    let listening = Reason::Listening { interfaces: vec!["eth0".into()] };
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

fn announced_in(bench: &mut Bench, duration: Duration) -> Vec<Duration> {
    let announced = |(at, action)| (action == Action::Announce).then_some(at);
    bench.run_for(duration).into_iter().filter_map(announced).collect()
}

#[test]
fn a_master_announces_as_often_as_configured_but_never_more_than_once_a_second() {
    let mut bench = Bench::new(Config { announce_every: Some(60 * SECOND), ..config(255) });
    bench.event(up());
    assert_eq!(announced_in(&mut bench, 130 * SECOND), [0, 5, 65, 125].map(|second| second * SECOND));
    let mut bench = Bench::new(Config { announce_every: Some(Duration::ZERO), ..config(255) });
    bench.event(up());
    assert_eq!(announced_in(&mut bench, 3 * SECOND), [0, 1, 2, 3].map(|second| second * SECOND));
}

#[test]
fn version_2_skews_by_a_part_of_a_second_whatever_the_interval() {
    let version_2 = Channel { version: Version::V2, ..channel(10 * SECOND) };
    let mut bench = Bench::new(Config { channels: vec![version_2], ..config(100) });
    bench.event(up());
    assert_eq!(bench.takeover_after(), 30 * SECOND + SKEW);
}

#[test]
fn the_owner_is_master_at_once() {
    for preempt in [Preempt::After(Duration::ZERO), Preempt::Never] {
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
    bench.event(Event::Advert { channel: 0, heard: Heard { from, interval: SECOND / 100 } });
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
fn a_master_that_stops_is_succeeded_after_the_skew() {
    let mut bench = Bench::in_state(Backup);
    bench.hear(HIGHER_ADDRESS, 200);
    bench.run_for(SECOND / 2);
    bench.hear(HIGHER_ADDRESS, 0);
    // A copy doesn't put it off.
    bench.run_for(SECOND / 2);
    bench.hear(HIGHER_ADDRESS, 0);
    assert_eq!(bench.takeover_after() + SECOND / 2, SKEW);
    assert_eq!(bench.machine.reason().to_string(), "10.0.0.40 gave the mastership away (priority 0)");
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
    bench.event(down());
    assert_eq!(bench.drain()[0], Action::ReleaseAddresses);
    assert_eq!(bench.machine.reason().to_string(), "interface eth0 is down");
    bench.event(interface(Interface::Missing));
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.machine.reason().to_string(), "there is no interface eth0");
    bench.event(up());
    assert_eq!(bench.takeover_after(), DOWN);
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
