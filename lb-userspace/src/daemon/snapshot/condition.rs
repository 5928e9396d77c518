//! What is told of a backend: what its check says, whether there is a way to it, what the operator wants.

use crate::admin::{self, View};
use crate::cli::units::duration;
use crate::config::model::{Admin, Backend, Service};
use crate::daemon::checks::Checks;
use crate::health::{Machine, State};
use crate::net::known_ways::Trouble;
use crate::status::BackendState;

use super::ago;

#[derive(Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) state: BackendState,
    pub(super) since: f64,
    pub(super) reason: String,
    pub(super) check_seconds: Option<f64>,
}

impl Condition {
    /// As the check has it.
    pub(super) fn of(checks: &Checks, service: &Service, backend: &Backend, started: f64) -> Self {
        let Some(machine) = checks.machine(service, backend) else {
            let reason = "no check configured".to_owned();
            return Self { state: BackendState::Up, since: started, reason, check_seconds: None };
        };
        Self {
            state: match machine.state() {
                State::Checking => BackendState::Checking,
                State::Up => BackendState::Up,
                State::Down => BackendState::Down,
            },
            since: ago(machine.since()),
            reason: machine.reason(),
            check_seconds: Machine::check_duration(machine).map(|took| took.as_secs_f64()),
        }
    }

    /// There is no way to it that new flows could take, or none was found yet.
    pub(super) fn out_of_reach(self, trouble: Option<&Trouble>) -> Self {
        let lost = trouble.filter(|trouble| trouble.loss.is_some());
        let reason = match (lost, trouble) {
            (Some(lost), _) => format!("out of reach: {}; {}", lost.reason, self.reason),
            (None, Some(trouble)) => {
                format!("no way to it is known yet: {}; {}", trouble.reason, self.reason)
            }
            (None, None) => format!("no way to it is known yet; {}", self.reason),
        };
        match (self.state, lost) {
            (BackendState::Up | BackendState::Checking, Some(lost)) => {
                Self { state: BackendState::Down, since: ago(lost.since), reason, ..self }
            }
            (BackendState::Up, None) => Self { state: BackendState::Checking, reason, ..self },
            _ => Self { reason, ..self },
        }
    }

    /// What the operator wants counts; what else is known is told too.
    pub(super) fn overruled(self, view: &View) -> Self {
        Self {
            state: match view.standing {
                admin::Standing::Active => self.state,
                admin::Standing::Draining => BackendState::Draining,
                admin::Standing::Out => BackendState::Disabled,
            },
            since: super::unix(view.since),
            reason: format!("{}; {}", words(view), self.reason),
            check_seconds: self.check_seconds,
        }
    }
}

fn words(view: &View) -> String {
    let state = match (view.state, view.standing) {
        (Admin::Drain, admin::Standing::Out) => "its time to drain is over",
        (Admin::Drain, _) => "drained",
        (Admin::Disabled | Admin::Active, _) => "disabled",
    };
    let who = if view.by_command { "by command" } else { "by the configuration" };
    match view.left {
        Some(left) => format!("{state} {who}, {} left", duration(left.as_secs_f64())),
        None => format!("{state} {who}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Instant;

    use super::*;
    use crate::net::way::Unresolved;

    fn told(state: BackendState, trouble: Option<Unresolved>) -> (BackendState, String) {
        let condition = Condition { state, since: 0.0, reason: "as checked".to_owned(), check_seconds: None };
        let trouble = trouble.map(|reason| {
            let loss = reason.loss();
            Trouble { reason, loss, since: Instant::now() }
        });
        let Condition { state, reason, .. } = condition.out_of_reach(trouble.as_ref());
        (state, reason)
    }

    #[test]
    fn a_backend_whose_way_is_lost_is_down_and_says_why_beside_what_its_check_says() {
        let down = Unresolved::Down { interface: "eth1".to_owned() };
        let why = "out of reach: its interface eth1 is down, or has no carrier; as checked";
        for state in [BackendState::Up, BackendState::Checking, BackendState::Down] {
            assert_eq!(told(state, Some(down.clone())), (BackendState::Down, why.to_owned()));
        }
        let silent = Unresolved::NoNeighbour { via: IpAddr::from([10, 0, 0, 5]), failed: true };
        let why = "out of reach: 10.0.0.5 does not answer ARP; as checked";
        assert_eq!(told(BackendState::Up, Some(silent)), (BackendState::Down, why.to_owned()));
    }

    #[test]
    fn a_backend_whose_way_is_not_found_yet_is_not_up_before_it_is() {
        let asked = Unresolved::NoNeighbour { via: IpAddr::from([10, 0, 0, 5]), failed: false };
        let why = "no way to it is known yet: 10.0.0.5 does not answer ARP; as checked";
        assert_eq!(told(BackendState::Up, Some(asked)), (BackendState::Checking, why.to_owned()));
        let why = "no way to it is known yet; as checked";
        assert_eq!(told(BackendState::Up, None), (BackendState::Checking, why.to_owned()));
        assert_eq!(told(BackendState::Down, None), (BackendState::Down, why.to_owned()));
    }
}
