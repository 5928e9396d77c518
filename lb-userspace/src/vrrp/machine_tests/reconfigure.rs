//! A new configuration in place.

use super::*;

#[test]
fn a_reload_neither_delays_nor_repeats_an_advertisement() {
    let untouched: Vec<_> = Bench::in_state(Master).sent_in(20 * SECOND);
    let mut bench = Bench::in_state(Master);
    let mut sent = Vec::new();
    for reload in 0..200_u32 {
        let priority = Priority::new(if reload % 2 == 0 { 120 } else { 100 }).unwrap();
        let preempt = if reload % 3 == 0 { Preempt::Never } else { Preempt::After(Duration::ZERO) };
        bench.machine.reconfigure(Config { priority, preempt, ..config(100) }, bench.now);
        sent.extend(bench.sent_in(SECOND / 10));
    }
    assert_eq!(sent, untouched);
}

#[test]
fn a_longer_interval_starts_after_the_advertisement_that_tells_it() {
    let mut bench = Bench::in_state(Master);
    let due = bench.machine.poll_timeout();
    bench.machine.reconfigure(every(10 * SECOND, 100), bench.now);
    assert_eq!(bench.machine.poll_timeout(), due);
    let sent = bench.sent_in(12 * SECOND);
    assert_eq!(sent[1] - sent[0], 10 * SECOND);
}

#[test]
fn a_shorter_interval_counts_from_the_last_advertisement() {
    let mut bench = Bench::in_state(Master);
    let last = bench.machine.poll_timeout().unwrap() - SECOND;
    bench.machine.reconfigure(every(SECOND / 10, 100), bench.now);
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
