//! The backends' health as the daemon holds it: a machine for each check, fed by the prober.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::config::model::{Backend, Check, Config, Service};
use crate::health::{Machine, ProbeKey, Prober, Report, State};

pub(super) struct Checks {
    prober: Prober,
    machines: BTreeMap<ProbeKey, Machine>,
    /// In force.
    checks: BTreeMap<ProbeKey, Check>,
}

impl Checks {
    pub(super) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { prober: Prober::new(reports), machines: BTreeMap::new(), checks: BTreeMap::new() }
    }

    /// Checks what the configuration asks for. A backend that was checked before keeps its state.
    pub(super) fn configure(&mut self, config: &Config, now: Instant) {
        let wanted = wanted(config);
        let before = std::mem::take(&mut self.machines);
        self.machines = machines(&before, &self.checks, &wanted, now);
        self.checks.clone_from(&wanted);
        self.prober.apply(wanted);
    }

    /// Whether the report changed a backend's state.
    pub(super) fn handle_report(&mut self, report: &Report, now: Instant) -> bool {
        // A report may still be on its way when its check is removed.
        let Some(machine) = self.machines.get_mut(&report.key) else {
            return false;
        };
        let Some(transition) = machine.handle_report(&report.result, report.took, now) else {
            return false;
        };
        let ProbeKey { service, backend } = &report.key;
        let (from, to) = (word(transition.from), word(transition.to));
        tracing::info!(service, %backend, from, to, "backend is {to}: {}", transition.reason);
        true
    }

    /// A backend without a check is taken to be up.
    pub(super) fn state(&self, service: &Service, backend: &Backend) -> State {
        self.machine(service, backend).map_or(State::Up, Machine::state)
    }

    pub(super) fn machine(&self, service: &Service, backend: &Backend) -> Option<&Machine> {
        let backend = backend.check_address(service.check.as_ref()?);
        self.machines.get(&ProbeKey { service: service.name.clone(), backend })
    }
}

/// Machines for the checks that are wanted, as far as there can be with the state that they had before. A service that is
/// new may be one that was renamed: its backends are as they were found for the one that is gone, if that was by the same
/// check.
fn machines(
    before: &BTreeMap<ProbeKey, Machine>,
    checks: &BTreeMap<ProbeKey, Check>,
    wanted: &BTreeMap<ProbeKey, Check>,
    now: Instant,
) -> BTreeMap<ProbeKey, Machine> {
    let gone = before.iter().filter(|(key, _)| !wanted.contains_key(*key));
    let gone: BTreeMap<SocketAddr, (&ProbeKey, &Machine)> =
        gone.map(|(key, machine)| (key.backend, (key, machine))).collect();
    let machine = |(key, check): (&ProbeKey, &Check)| {
        let renamed = || {
            let (gone, machine) = gone.get(&key.backend)?;
            (checks.get(gone) == Some(check)).then_some(*machine)
        };
        let machine = match before.get(key).or_else(renamed) {
            Some(machine) => {
                let mut machine = machine.clone();
                machine.reconfigure(check.rise, check.fall);
                machine
            }
            None => Machine::new(check.rise, check.fall, now),
        };
        (key.clone(), machine)
    };
    wanted.iter().map(machine).collect()
}

fn wanted(config: &Config) -> BTreeMap<ProbeKey, Check> {
    let checked = config.services.iter().filter_map(|service| Some((service, service.check.as_ref()?)));
    checked
        .flat_map(|(service, check)| {
            service.backends.iter().map(|backend| {
                (
                    ProbeKey { service: service.name.clone(), backend: backend.check_address(check) },
                    check.clone(),
                )
            })
        })
        .collect()
}

pub(super) const fn word(state: State) -> &'static str {
    match state {
        State::Checking => "checking",
        State::Up => "up",
        State::Down => "down",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Host, parse};

    fn checks(service: &str, check: &str) -> BTreeMap<ProbeKey, Check> {
        let host = Host { hostname: "lb".into(), interfaces: ["eth0".to_owned()].into() };
        let text = format!(
            "interfaces: [eth0]\nservices:\n  - name: {service}\n    listen: 203.0.113.10:80\n    \
             forward: nat\n    backends: [10.0.0.11:80]\n    check: {check}\n"
        );
        wanted(&parse(&text, "a.yaml", &host).unwrap())
    }

    /// The state of the one backend after a configuration that found it up was replaced.
    fn after(service: &str, check: &str) -> State {
        let (now, before) = (Instant::now(), checks("web", "{ tcp: {}, fall: 2 }"));
        let mut known = machines(&BTreeMap::new(), &BTreeMap::new(), &before, now);
        known.values_mut().for_each(|machine| {
            machine.handle_report(&Ok(()), Duration::ZERO, now);
        });
        let after = machines(&known, &before, &checks(service, check), now);
        assert_eq!(after.len(), 1);
        after.values().next().unwrap().state()
    }

    #[test]
    fn a_backend_is_checked_anew_only_if_it_was_not_checked_or_otherwise() {
        assert_eq!(after("web", "{ tcp: {}, fall: 2 }"), State::Up);
        assert_eq!(after("web", "{ tcp: {}, fall: 5 }"), State::Up);
        assert_eq!(after("web", "{ http: {} }"), State::Up, "the next check decides");
        assert_eq!(after("www", "{ tcp: {}, fall: 2 }"), State::Up, "the service has another name");
        assert_eq!(after("www", "{ http: {} }"), State::Checking);
    }
}
