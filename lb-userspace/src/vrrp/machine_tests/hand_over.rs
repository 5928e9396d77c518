//! A master that hands over by command.

use super::*;

#[test]
fn a_master_that_yields_serves_until_another_is_master_and_then_stands_back() {
    let mut bench = Bench::in_state(Master);
    bench.event(Event::Yield);
    assert_eq!(bench.drain(), [send(0)]);
    bench.run_for(SKEW);
    assert_eq!(bench.machine.state(), Master);
    bench.hear(LOWER_ADDRESS, 50);
    let actions: Vec<_> = bench.run_for(SECOND / 10).into_iter().map(|(_, action)| action).collect();
    let reason = Reason::HandedOver { master: Peer { address: LOWER_ADDRESS, priority: 50 } };
    assert_eq!(
        actions,
        [Action::ReleaseAddresses, Action::Transition { from: Master, to: Backup, reason: reason.clone() }]
    );
    assert_eq!(reason.to_string(), "handed over by evenkeel failover to 10.0.0.4 (priority 50)");
    for _ in 0..100 {
        bench.run_for(SECOND);
        bench.hear(LOWER_ADDRESS, 50);
        assert_eq!(bench.machine.state(), Backup);
    }
    let outlook = bench.machine.outlook().unwrap().in_words(bench.now);
    assert_eq!(
        outlook,
        "10.0.0.4 is master with priority 50, ours is 100, but we handed over by evenkeel failover"
    );
}

fn yielded(priority: u8) -> Bench {
    let mut bench = Bench::new(config(priority));
    bench.event(up());
    bench.run_for(5 * SECOND);
    bench.event(Event::Yield);
    bench.hear(LOWER_ADDRESS, 50);
    bench.run_for(SECOND);
    assert_eq!(bench.machine.state(), Backup);
    bench.drain();
    bench
}

#[test]
fn who_stood_back_is_master_again_when_the_other_falls_silent_and_preempts_from_then_on() {
    let mut bench = yielded(100);
    bench.hear(LOWER_ADDRESS, 50);
    assert_eq!(bench.takeover_after(), DOWN);
    assert!(!bench.machine.yielded());
}

#[test]
fn even_an_owner_stands_back_across_a_fault_and_a_reload() {
    let mut bench = yielded(255);
    bench.event(down());
    bench.event(up());
    bench.machine.reconfigure(config(255), bench.now);
    assert_eq!(bench.machine.state(), Backup);
}

#[test]
fn with_unyield_it_preempts_as_configured() {
    let mut bench = yielded(100);
    bench.event(Event::Unyield);
    for _ in 0..4 {
        bench.hear(LOWER_ADDRESS, 50);
        bench.run_for(SECOND);
    }
    assert_eq!(bench.machine.state(), Master);
}

#[test]
fn without_a_successor_it_is_master_again_and_says_so() {
    let mut bench = Bench::in_state(Master);
    bench.event(Event::Yield);
    bench.hear(LOWER_ADDRESS, 0);
    assert!(bench.machine.handing_over());
    let actions = bench.run_for(3 * SECOND);
    assert!(!actions.iter().any(|(_, action)| *action == Action::ReleaseAddresses));
    assert!(actions.iter().any(|(_, action)| *action == send(100)));
    assert!(!bench.machine.handing_over());
    assert!(!bench.machine.yielded());
    assert_eq!(*bench.machine.reason(), Reason::NoSuccessor);
}

#[test]
fn a_stop_while_it_hands_over_ends_it_with_the_same_last_word() {
    let mut bench = Bench::in_state(Master);
    bench.event(Event::Yield);
    bench.event(Event::Stop);
    assert_eq!(bench.drain(), [send(0)]);
    bench.hear(LOWER_ADDRESS, 50);
    bench.run_for(SECOND);
    assert!(bench.machine.stopped());
}
