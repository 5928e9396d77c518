//! A timer that comes late, as this node slept: what it does with a master that seems silent.

use super::*;

/// Of a master of higher priority.
fn follower() -> Bench {
    let mut bench = Bench::in_state(Backup);
    bench.hear(HIGHER_ADDRESS, 200);
    bench
}

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
