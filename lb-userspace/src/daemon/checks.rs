//! The backends' health as the daemon holds it: a machine for each check, fed by the prober.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::config::model::{Backend, Check, Config, Service};
use crate::health::{Machine, ProbeKey, Prober, Report, State};

pub(super) struct Checks {
    prober: Prober,
    machines: BTreeMap<ProbeKey, Machine>,
}

impl Checks {
    pub(super) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { prober: Prober::new(reports), machines: BTreeMap::new() }
    }

    /// Checks what the configuration asks for. A backend that was checked before keeps its state.
    pub(super) fn configure(&mut self, config: &Config, now: Instant) {
        let wanted = wanted(config);
        self.machines.retain(|key, _| wanted.contains_key(key));
        for (key, check) in &wanted {
            self.machines
                .entry(key.clone())
                .and_modify(|machine| machine.reconfigure(check.rise, check.fall))
                .or_insert_with(|| Machine::new(check.rise, check.fall, now));
        }
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
