//! What is tracked: the priority it leaves, and the fault it makes.

use super::*;

#[test]
fn the_priority_stays_between_1_and_254_and_the_owners_stays() {
    let table = [
        (100, -30, 70),
        (100, 30, 130),
        (100, -200, 1),
        (100, i32::MAX, 254),
        (100, i32::MIN, 1),
        (255, -30, 255),
    ];
    for (base, adjustment, effective) in table {
        let mut bench = Bench::new(config(base));
        bench.event(adjusted(adjustment));
        assert_eq!(bench.machine.effective_priority().as_u8(), effective);
        bench.event(adjusted(0));
        assert_eq!(bench.machine.effective_priority().as_u8(), base);
    }
}

#[test]
fn a_master_tells_its_new_priority_with_its_next_advertisement() {
    let mut bench = Bench::in_state(Master);
    let due = bench.machine.poll_timeout();
    bench.event(adjusted(-60));
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.machine.poll_timeout(), due);
    let actions: Vec<_> = bench.run_for(SECOND).into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, [send(40)]);
    bench.hear(LOWER_ADDRESS, 50);
    assert_eq!(bench.machine.state(), Backup);
}

#[test]
fn a_running_down_timer_is_skewed_anew() {
    let mut bench = Bench::in_state(Backup);
    bench.run_for(2 * SECOND);
    bench.event(adjusted(100));
    assert_eq!(bench.takeover_after(), SECOND + SECOND * 56 / 256);
}

#[test]
fn a_backup_that_loses_priority_follows_the_master_that_it_was_to_preempt() {
    let mut bench = Bench::in_state(Backup);
    for _ in 0..3 {
        bench.run_for(SECOND);
        bench.hear(HIGHER_ADDRESS, 90);
    }
    bench.run_for(SECOND / 2);
    bench.event(adjusted(-50));
    assert_eq!(bench.takeover_after(), 3 * SECOND + SECOND * 206 / 256 - SECOND / 2);
}

#[test]
fn a_tracking_fault_is_told_to_the_others_and_in_words_and_ends_with_its_cause() {
    let mut bench = Bench::in_state(Master);
    bench.event(Event::Tracking(Tracking { adjustment: 0, fault: Some("script /bin/check failed".into()) }));
    assert_eq!(bench.drain()[..2], [send(0), Action::ReleaseAddresses]);
    assert_eq!(bench.machine.reason().to_string(), "script /bin/check failed");
    bench.event(down());
    assert_eq!(bench.machine.reason().to_string(), "interface eth0 is down");
    bench.event(up());
    assert_eq!(bench.machine.reason().to_string(), "script /bin/check failed");
    bench.event(Event::Tracking(Tracking::default()));
    assert_eq!(bench.takeover_after(), DOWN);
}
