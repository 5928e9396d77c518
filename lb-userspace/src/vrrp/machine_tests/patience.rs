//! A timer that comes late, as this node slept: what it does with a master that seems silent.

use super::*;

/// Of a master of higher priority.
fn follower() -> Bench {
    let mut bench = Bench::in_state(Backup);
    bench.hear(HIGHER_ADDRESS, 200);
    bench
}

/// Time in which it was given its turn.
const AWAKE: Duration = Duration::from_millis(3_700);

fn sleep(bench: &mut Bench, duration: Duration) {
    bench.now += duration;
    bench.machine.handle_timeout(bench.now);
}

#[test]
fn a_node_that_slept_gives_a_master_that_seemed_silent_two_intervals_more() {
    let mut bench = follower();
    sleep(&mut bench, 60 * SECOND);
    assert_eq!(bench.machine.state(), Backup);
    assert_eq!(bench.takeover_after(), 2 * SECOND);
}

#[test]
fn a_node_that_slept_twice_gives_a_master_more_time_once() {
    let mut bench = follower();
    sleep(&mut bench, 60 * SECOND);
    sleep(&mut bench, 60 * SECOND);
    assert_eq!(bench.machine.state(), Master);
}

#[test]
fn a_master_that_is_heard_in_the_time_it_was_given_is_followed_on() {
    let mut bench = follower();
    sleep(&mut bench, 60 * SECOND);
    bench.run_for(SECOND);
    bench.hear(HIGHER_ADDRESS, 200);
    assert_eq!(bench.takeover_after(), DOWN);
}

#[test]
fn a_timer_that_is_a_quarter_of_an_interval_late_counts() {
    let mut bench = follower();
    sleep(&mut bench, DOWN + SECOND / 4);
    assert_eq!(bench.machine.state(), Master);
}

#[test]
fn of_a_master_that_stopped_or_is_to_be_preempted_or_never_was_nothing_more_is_awaited() {
    let mut stopped = follower();
    stopped.hear(HIGHER_ADDRESS, 0);
    let mut lower = Bench::in_state(Backup);
    lower.hear(HIGHER_ADDRESS, 50);
    for mut bench in [stopped, lower, Bench::in_state(Backup)] {
        sleep(&mut bench, 60 * SECOND);
        assert_eq!(bench.machine.state(), Master, "{:?}", bench.machine.reason());
    }
}

#[test]
fn a_priority_raised_just_before_the_deadline_takes_over_at_once() {
    let mut bench = Bench::new(config(50));
    bench.event(up());
    bench.hear(HIGHER_ADDRESS, 200);
    bench.run_for(AWAKE);
    bench.event(adjusted(150));
    assert_eq!(bench.takeover_after(), Duration::ZERO);
}

#[test]
fn a_channel_that_a_reload_removes_just_before_the_deadline_costs_no_time() {
    let second = Channel { vrid: Vrid::new(8).unwrap(), ..channel(SECOND) };
    let both = Config { channels: vec![channel(SECOND), second], ..config(100) };
    let mut bench = Bench::new(both);
    bench.event(up());
    bench.event(Event::Interface { channel: 1, interface: Interface::Up { primary: OWN } });
    bench.hear(HIGHER_ADDRESS, 200);
    bench.run_for(2 * SECOND);
    bench.event(Event::Advert { channel: 1, heard: claim(HIGHER_ADDRESS, 200, SECOND) });
    bench.run_for(3 * SECOND);
    bench.machine.reconfigure(config(100), bench.now);
    assert_eq!(bench.takeover_after(), Duration::ZERO);
}

#[test]
fn a_priority_that_flaps_does_not_put_the_end_of_the_time_off() {
    let mut bench = follower();
    sleep(&mut bench, 60 * SECOND);
    for flap in 0..19 {
        bench.event(adjusted(if flap % 2 == 0 { 50 } else { -50 }));
        bench.run_for(SECOND / 10);
    }
    assert_eq!(bench.takeover_after(), SECOND / 10);
}

#[test]
fn an_event_that_comes_before_the_late_timer_does_not_hide_the_sleep() {
    let of_priority = |priority| Config { priority: Priority::new(priority).unwrap(), ..config(100) };
    let tracked = |bench: &mut Bench| bench.event(adjusted(50));
    let reloaded = |bench: &mut Bench| bench.machine.reconfigure(of_priority(150), bench.now);
    for first in [&tracked as &dyn Fn(&mut Bench), &reloaded] {
        let mut bench = follower();
        bench.now += 60 * SECOND;
        first(&mut bench);
        assert_eq!(bench.takeover_after(), 2 * SECOND);
    }
}

#[test]
fn a_lower_master_heard_in_the_time_that_a_better_one_was_given_is_preempted_after_it() {
    let mut bench = follower();
    sleep(&mut bench, 60 * SECOND);
    bench.hear(LOWER_ADDRESS, 50);
    assert_eq!(bench.takeover_after(), 2 * SECOND);
}
