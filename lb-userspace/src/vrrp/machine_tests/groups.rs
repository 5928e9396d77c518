//! One state on several channels.

use super::*;

const OWN_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5));
const HIGHER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x40));

/// IPv4 every second on eth0, IPv6 every three seconds on eth1.
fn dual(priority: u8) -> Config {
    let second =
        Channel { interface: "eth1".into(), family: Family::V6, interval: 3 * SECOND, ..channel(SECOND) };
    Config { channels: vec![channel(SECOND), second], ..config(priority) }
}

fn on(channel: usize, address: IpAddr, priority: u8, interval: Duration) -> Event {
    Event::Advert { channel, heard: claim(address, priority, interval) }
}

fn second_interface(interface: Interface) -> Event {
    Event::Interface { channel: 1, interface }
}

fn second_up() -> Event {
    second_interface(Interface::Up { primary: OWN_V6 })
}

fn backup() -> Bench {
    let mut bench = Bench::new(dual(100));
    bench.event(up());
    assert_eq!(bench.machine.state(), Init, "an interface is not looked at yet");
    bench.event(second_up());
    assert_eq!(bench.machine.reason().to_string(), "interfaces eth0, eth1 are up, listening for a master");
    bench.drain();
    bench
}

fn master() -> Bench {
    let mut bench = backup();
    bench.run_for(3 * DOWN + 10 * SECOND);
    assert_eq!(bench.machine.state(), Master);
    bench.drain();
    bench
}

fn sent(channel: usize, priority: u8) -> Action {
    Action::SendAdvert { channel, priority }
}

#[test]
fn every_channel_has_to_be_silent() {
    assert_eq!(backup().takeover_after(), 3 * DOWN);
    let mut bench = backup();
    for _ in 0..20 {
        bench.event(on(0, HIGHER_ADDRESS, 200, SECOND));
        bench.run_for(SECOND);
    }
    bench.event(on(0, HIGHER_ADDRESS, 200, SECOND));
    assert_eq!(bench.takeover_after(), DOWN);
}

#[test]
fn every_channel_of_a_master_has_its_own_rhythm() {
    let mut bench = backup();
    let began = 3 * DOWN;
    let actions = bench.run_for(began + 6 * SECOND);
    let times = |channel| -> Vec<Duration> {
        let on_it =
            |action: &Action| matches!(action, Action::SendAdvert { channel: on, .. } if *on == channel);
        actions.iter().filter(|(_, action)| on_it(action)).map(|(at, _)| *at - began).collect()
    };
    assert_eq!(times(0), (0..=6).map(|second| second * SECOND).collect::<Vec<_>>());
    assert_eq!(times(1), [Duration::ZERO, 3 * SECOND, 6 * SECOND]);
}

#[test]
fn a_better_master_on_any_channel_takes_all() {
    for (channel, address) in [(0, LOWER_ADDRESS), (1, HIGHER_V6)] {
        let mut bench = master();
        bench.event(on(channel, address, 101, SECOND));
        assert_eq!(bench.machine.state(), Backup);
        let actions = bench.run_for(SECOND / 2);
        assert!(actions.iter().any(|(_, action)| *action == Action::ReleaseAddresses));
    }
}

#[test]
fn addresses_decide_on_the_first_channel_only() {
    let mut bench = master();
    bench.event(on(1, HIGHER_V6, 100, 3 * SECOND));
    let peer = Peer { address: HIGHER_V6, priority: 100 };
    assert_eq!(bench.drain(), [sent(1, 100), Action::SecondMaster(peer), Action::Announce]);
    bench.event(on(0, HIGHER_ADDRESS, 100, SECOND));
    assert_eq!(bench.machine.state(), Backup);

    let mut first_is_v6 = dual(100);
    first_is_v6.channels.swap(0, 1);
    for (address, state) in [(HIGHER_V6, Backup), (IpAddr::V6(Ipv6Addr::LOCALHOST), Master)] {
        let mut bench = Bench::new(first_is_v6.clone());
        bench.event(Event::Interface { channel: 0, interface: Interface::Up { primary: OWN_V6 } });
        bench.event(Event::Interface { channel: 1, interface: Interface::Up { primary: OWN } });
        bench.run_for(3 * DOWN);
        bench.event(on(0, address, 100, SECOND));
        assert_eq!(bench.machine.state(), state);
    }
}

#[test]
fn one_interface_that_fails_takes_all_out_and_the_others_are_told() {
    let mut bench = master();
    bench.event(second_interface(Interface::NoAddress));
    assert_eq!(bench.drain()[..2], [sent(0, 0), Action::ReleaseAddresses]);
    let reason = bench.machine.reason().to_string();
    assert!(reason.starts_with("interface eth1 has no IPv6 address"), "{reason}");
    bench.event(down());
    bench.event(second_up());
    assert_eq!(bench.machine.reason().to_string(), "interface eth0 is down");
    bench.event(up());
    assert_eq!(bench.takeover_after(), 3 * DOWN);
}

#[test]
fn a_stop_is_told_on_all_channels_and_waits_for_the_slowest() {
    let mut bench = master();
    bench.event(Event::Stop);
    assert_eq!(bench.drain(), [sent(0, 0), sent(1, 0)]);
    bench.run_for(3 * SECOND);
    assert_eq!(bench.machine.state(), Master);
    bench.run_for(SECOND);
    assert!(bench.machine.stopped());
}

#[test]
fn a_master_that_stops_on_all_channels_is_succeeded_after_the_longest_skew() {
    let mut bench = backup();
    bench.event(on(0, HIGHER_ADDRESS, 200, SECOND));
    bench.event(on(1, HIGHER_V6, 200, 3 * SECOND));
    bench.event(on(0, HIGHER_ADDRESS, 0, SECOND));
    bench.event(on(1, HIGHER_V6, 0, 3 * SECOND));
    assert_eq!(bench.takeover_after(), 3 * SKEW);
    assert_eq!(bench.machine.reason().to_string(), "10.0.0.40 gave the mastership away (priority 0)");
}

#[test]
fn a_channel_that_comes_does_not_disturb_those_that_stay_and_is_told_when_it_works() {
    let undisturbed = Bench::in_state(Master).sent_in(20 * SECOND);
    let mut bench = Bench::in_state(Master);
    bench.machine.reconfigure(dual(100), bench.now);
    assert_eq!(bench.drain(), []);
    bench.event(second_up());
    assert_eq!(bench.drain(), [sent(1, 100)]);
    let on_first = |&(at, ref action): &(Duration, Action)| (*action == sent(0, 100)).then_some(at);
    let times: Vec<_> = bench.run_for(20 * SECOND).iter().filter_map(on_first).collect();
    assert_eq!(times, undisturbed);
}

#[test]
fn a_channel_that_goes_takes_its_fault_along_and_its_index() {
    let mut bench = master();
    let due = bench.machine.poll_timeout();
    let mut only_v6 = dual(100);
    only_v6.channels.remove(0);
    bench.machine.reconfigure(only_v6.clone(), bench.now);
    bench.event(on(0, HIGHER_V6, 50, 3 * SECOND));
    assert_eq!(bench.drain()[0], sent(0, 100));
    assert!(bench.machine.poll_timeout() >= due);

    let mut bench = master();
    bench.event(down());
    bench.machine.reconfigure(only_v6, bench.now);
    assert_eq!(bench.machine.state(), Backup);
}

#[test]
fn a_channel_that_comes_to_a_backup_counts_as_just_heard() {
    let mut bench = Bench::in_state(Backup);
    bench.run_for(3 * SECOND);
    bench.machine.reconfigure(dual(100), bench.now);
    bench.event(second_up());
    assert_eq!(bench.takeover_after(), 3 * DOWN);
}

#[test]
fn events_of_channels_that_are_not_there_change_nothing() {
    let mut bench = master();
    let due = bench.machine.poll_timeout();
    bench.event(on(2, HIGHER_ADDRESS, 255, SECOND));
    bench.event(Event::Interface { channel: 2, interface: Interface::Down });
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.machine.poll_timeout(), due);
    assert!(bench.machine.nodes(2).is_empty());

    let mut bench = Bench::new(Config { channels: Vec::new(), ..config(100) });
    bench.event(Event::Tracking(Tracking::default()));
    assert_eq!(bench.run_for(60 * SECOND).len(), 1);
    assert_eq!(bench.machine.state(), Backup);
}

#[test]
fn who_was_heard_on_a_channel_is_known_in_every_state() {
    for state in [Init, Fault, Backup, Master] {
        let mut bench = Bench::in_state(state);
        bench.hear(HIGHER_ADDRESS, 50);
        let [node] = bench.machine.nodes(0) else { panic!("{:?}", bench.machine.nodes(0)) };
        assert_eq!((node.peer.address, node.peer.priority, node.heard_at), (HIGHER_ADDRESS, 50, bench.now));
    }
}

#[test]
fn a_better_master_on_one_channel_forbids_to_preempt_a_lower_one_on_another() {
    let mut bench = Bench::new(Config { preempt: Preempt::After(2 * SECOND), ..dual(100) });
    bench.event(up());
    bench.event(second_up());
    for second in 0..60 {
        if second % 3 == 0 {
            bench.event(on(1, HIGHER_V6, 150, 3 * SECOND));
        }
        bench.event(on(0, HIGHER_ADDRESS, 50, SECOND));
        bench.run_for(SECOND);
        assert_eq!(bench.machine.state(), Backup);
    }
}

#[test]
fn the_last_eight_nodes_are_known_each_with_its_last_word() {
    let node = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let mut bench = Bench::in_state(Backup);
    for (last, priority) in [(10, 1), (11, 2), (10, 3)].into_iter().chain((12..=18).map(|last| (last, last)))
    {
        bench.hear(node(last), priority);
        bench.run_for(SECOND / 10);
    }
    let known = bench.machine.nodes(0).iter().map(|node| (node.peer.address, node.peer.priority));
    let expected = [(10, 3), (12, 12), (13, 13), (14, 14), (15, 15), (16, 16), (17, 17), (18, 18)];
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    assert_eq!(known, expected.map(|(last, priority)| (node(last), priority)));
}
