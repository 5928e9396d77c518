//! Taking over from a master of lower priority.

use super::*;

#[test]
fn a_master_of_lower_priority_is_preempted_only_if_configured() {
    let mut bench = Bench::in_state(Backup);
    bench.run_for(3 * SECOND);
    bench.hear(HIGHER_ADDRESS, 99);
    assert_eq!(bench.takeover_after(), SKEW);
    assert_eq!(bench.machine.reason().to_string(), "took over from 10.0.0.40 (priority 99, ours is 100)");

    let mut bench = Bench::new(Config { preempt: Preempt::Never, ..config(100) });
    bench.event(up());
    bench.run_for(3 * SECOND);
    bench.hear(HIGHER_ADDRESS, 99);
    assert_eq!(bench.takeover_after(), DOWN);
}

#[test]
fn the_last_word_of_the_master_that_was_preempted_is_no_second_master_but_its_going_on_is() {
    let mut bench = Bench::in_state(Backup);
    bench.run_for(3 * SECOND);
    bench.hear(HIGHER_ADDRESS, 99);
    bench.takeover_after();
    bench.drain();
    let second_master = Action::SecondMaster(Peer { address: HIGHER_ADDRESS, priority: 99 });
    bench.hear(HIGHER_ADDRESS, 99);
    assert!(!bench.drain().contains(&second_master));
    assert!(!bench.machine.second_master(bench.now));
    bench.run_for(SECOND);
    bench.hear(HIGHER_ADDRESS, 99);
    assert!(bench.drain().contains(&second_master));
    assert!(bench.machine.second_master(bench.now));
}

#[test]
fn a_master_that_gives_way_tells_the_other_one_that_it_was_there() {
    let mut bench = Bench::in_state(Master);
    bench.hear(HIGHER_ADDRESS, 101);
    assert_eq!(bench.drain()[0], send(100));
    assert_eq!(bench.machine.state(), Backup);
}

#[test]
fn a_master_that_gives_way_keeps_its_addresses_until_the_other_one_can_have_taken_them() {
    let millisecond = SECOND / 1_000;
    for (interval, lingers) in [(SECOND, 20 * millisecond), (10 * millisecond, 5 * millisecond)] {
        let mut bench = Bench::new(every(interval, 100));
        bench.event(up());
        bench.run_for(4 * interval);
        let gave_way = bench.now - bench.start;
        bench.hear(HIGHER_ADDRESS, 101);
        let actions = bench.run_for(SECOND);
        let released = actions.into_iter().find(|(_, action)| *action == Action::ReleaseAddresses);
        assert_eq!(released, Some((gave_way + lingers, Action::ReleaseAddresses)));
    }
}

#[test]
fn a_master_that_gave_way_lets_go_at_once_if_it_stops_or_fails_and_not_at_all_if_it_is_master_again() {
    let gives_way = || {
        let mut bench = Bench::in_state(Master);
        bench.hear(HIGHER_ADDRESS, 101);
        bench.drain();
        bench
    };
    for event in [Event::Stop, down()] {
        let mut bench = gives_way();
        bench.event(event);
        assert_eq!(bench.drain()[0], Action::ReleaseAddresses);
        assert_eq!(bench.run_for(SECOND), []);
    }
    let mut bench = gives_way();
    bench.machine.reconfigure(config(255), bench.now);
    assert_eq!(bench.machine.state(), Master);
    assert!(bench.run_for(SECOND).iter().all(|(_, action)| *action != Action::ReleaseAddresses));
}

fn delayed(delay: Duration) -> Bench {
    let mut bench = Bench::new(Config { preempt: Preempt::After(delay), ..config(100) });
    bench.event(up());
    bench.drain();
    bench
}

#[test]
fn a_delayed_preemption_comes_when_the_master_of_lower_priority_was_heard_for_the_delay() {
    let mut bench = delayed(20 * SECOND);
    let heard_since = bench.now;
    while bench.machine.state() != Master {
        bench.hear(HIGHER_ADDRESS, 50);
        let actions = bench.run_for(SECOND);
        for (at, action) in actions {
            if action == Action::TakeAddresses {
                assert_eq!(bench.start + at, heard_since + 20 * SECOND);
            }
        }
    }
    let preempted = Reason::Preempted { master: Peer { address: HIGHER_ADDRESS, priority: 50 }, own: 100 };
    assert_eq!(*bench.machine.reason(), preempted);
}

#[test]
fn a_delay_is_told_while_it_runs() {
    let mut bench = delayed(20 * SECOND);
    for _ in 0..8 {
        bench.hear(HIGHER_ADDRESS, 50);
        bench.run_for(SECOND);
    }
    let outlook = bench.machine.outlook().unwrap();
    for (later, left) in [(0, "12.0"), (7, "5.0"), (20, "0.0")] {
        let words = outlook.in_words(bench.now + later * SECOND);
        let expected = "10.0.0.40 is master with priority 50, ours is 100: taking over in";
        assert_eq!(words, format!("{expected} {left} s"));
    }
}

#[test]
fn a_master_that_falls_silent_during_the_delay_is_succeeded_after_the_down_interval() {
    let mut bench = delayed(300 * SECOND);
    for _ in 0..8 {
        bench.hear(HIGHER_ADDRESS, 50);
        bench.run_for(SECOND);
    }
    bench.hear(HIGHER_ADDRESS, 50);
    assert_eq!(bench.takeover_after(), DOWN);
    assert!(matches!(bench.machine.reason(), Reason::Silence { master: Some(_), .. }));
}

#[test]
fn a_better_master_starts_the_delay_anew() {
    let mut bench = delayed(5 * SECOND);
    for priority in [50, 50, 50, 50, 120] {
        bench.hear(HIGHER_ADDRESS, priority);
        bench.run_for(SECOND);
    }
    let from = bench.now;
    for _ in 0..5 {
        bench.hear(HIGHER_ADDRESS, 50);
        assert_eq!(bench.machine.state(), Backup);
        bench.run_for(SECOND);
    }
    assert_eq!(bench.machine.state(), Master);
    assert_eq!(bench.now - from, 5 * SECOND);
}

#[test]
fn an_owner_preempts_whatever_is_configured() {
    for preempt in [Preempt::Never, Preempt::After(300 * SECOND)] {
        let mut bench = Bench::new(Config { preempt, ..config(255) });
        bench.event(up());
        // Another owner, for the moment.
        bench.hear(HIGHER_ADDRESS, 255);
        assert_eq!(bench.machine.state(), Backup);
        for _ in 0..4 {
            bench.hear(HIGHER_ADDRESS, 254);
            bench.run_for(SECOND);
        }
        assert_eq!(bench.machine.state(), Master);
    }
}

#[test]
fn what_a_backup_waits_for_is_said() {
    let outlook = |bench: &Bench| bench.machine.outlook().unwrap().in_words(bench.now);
    let mut bench = Bench::in_state(Backup);
    bench.run_for(SECOND);
    assert_eq!(outlook(&bench), "no master is heard: taking over in 2.6 s");
    bench.hear(HIGHER_ADDRESS, 200);
    assert_eq!(outlook(&bench), "10.0.0.40 is master with priority 200, ours is 100");
    bench.machine.reconfigure(Config { preempt: Preempt::Never, ..config(100) }, bench.now);
    bench.hear(LOWER_ADDRESS, 50);
    assert_eq!(outlook(&bench), "10.0.0.4 is master with priority 50, ours is 100, and preemption is off");
    assert_eq!(Bench::in_state(Master).machine.outlook(), None);
}
