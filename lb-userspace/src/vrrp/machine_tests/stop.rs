//! An orderly end.

use super::*;
use crate::config::model::Version;
use crate::vrrp::machine::leave_limit;

#[test]
fn a_master_that_stops_tells_the_others_and_lets_go_when_one_of_them_is_master() {
    let stopped = Action::Transition { from: Master, to: Init, reason: Reason::Stopped };
    let mut bench = Bench::in_state(Master);
    bench.event(Event::Stop);
    assert_eq!(bench.drain(), [send(0)]);
    bench.run_for(SKEW);
    bench.hear(LOWER_ADDRESS, 0);
    bench.hear(LOWER_ADDRESS, 50);
    assert_eq!(bench.drain(), []);
    let actions: Vec<_> = bench.run_for(SECOND / 10).into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, [Action::ReleaseAddresses, stopped]);
    assert!(bench.machine.stopped());
}

#[test]
fn a_master_that_stops_serves_until_the_slowest_successor_does_at_every_interval() {
    for interval in [SECOND / 100, SECOND / 10, SECOND, 10 * SECOND, 40_950 * SECOND / 1_000] {
        let heard = |priority| Event::Advert { channel: 0, heard: claim(HIGHER_ADDRESS, priority, interval) };
        let mut leaving = Bench::new(every(interval, 255));
        leaving.event(up());
        let mut next = Bench::new(every(interval, 1));
        next.event(up());
        next.event(heard(255));

        leaving.event(Event::Stop);
        next.event(heard(0));
        leaving.run_for(next.takeover_after() + SECOND / 10);
        assert_eq!(leaving.machine.state(), Master, "{interval:?}");
        leaving.event(heard(1));
        leaving.run_for(SECOND / 10);
        assert!(leaving.machine.stopped());
    }
}

#[test]
fn a_stop_ends_without_a_successor_and_at_once_without_the_interface() {
    for interval in [SECOND, 40 * SECOND] {
        let mut bench = Bench::new(every(interval, 255));
        bench.event(up());
        bench.event(Event::Stop);
        bench.run_for(leave_limit(Version::V3, interval));
        assert!(bench.machine.stopped());
    }
    let mut bench = Bench::in_state(Master);
    bench.event(Event::Stop);
    bench.event(down());
    assert!(bench.drain().contains(&Action::ReleaseAddresses));
    assert!(bench.machine.stopped());
}

#[test]
fn nothing_revives_a_stopped_machine() {
    for state in [Init, Fault, Backup, Master] {
        let mut bench = Bench::in_state(state);
        bench.event(Event::Stop);
        bench.run_for(leave_limit(Version::V3, SECOND));
        bench.event(up());
        bench.event(down());
        bench.hear(HIGHER_ADDRESS, 0);
        for event in [Event::Yield, Event::Unyield, Event::Stop] {
            bench.event(event);
        }
        bench.event(Event::Tracking(Tracking { adjustment: 0, fault: Some("ill".into()) }));
        bench.event(Event::Tracking(Tracking::default()));
        bench.machine.reconfigure(config(255), bench.now);
        assert_eq!(bench.run_for(60 * SECOND), []);
        assert_eq!(bench.machine.state(), Init);
        assert!(bench.machine.stopped());
    }
}
