//! Commands that take backends out and back in, and what is kept of them.

use std::time::{Duration, Instant, SystemTime};

use super::Daemon;
use super::control::{Applied, Take};
use super::kept::Kept;
use crate::admin::{self, Command, Machine, Name, Standing, View, store};
use crate::config::model::{Admin as State, Backend, Config, Service};

/// What the operator wants of backends, as the daemon holds it.
pub(super) struct Admin {
    machine: Machine,
    kept: Kept,
}

impl Admin {
    /// Goes on with the commands that an earlier daemon kept.
    pub(super) fn new(state_dir: &std::path::Path) -> Self {
        let commands = store::read(state_dir).unwrap_or_else(|error| {
            tracing::error!("backends that a command had taken out are in again: {error}");
            std::collections::BTreeMap::new()
        });
        for (name, command) in &commands {
            tracing::info!("{name} is {} by an earlier command", word(command.state));
        }
        let machine = Machine::new(commands, Instant::now(), SystemTime::now());
        Self { machine, kept: Kept::commands(state_dir.to_owned()) }
    }

    pub(super) fn configure(&mut self, config: &Config) {
        if self.machine.configure(config, Instant::now(), SystemTime::now()) {
            self.keep();
        }
    }

    pub(super) fn standing(&self, service: &Service, backend: &Backend) -> Standing {
        self.machine.standing(service, backend, Instant::now())
    }

    pub(super) fn view(&self, service: &Service, backend: &Backend) -> Option<View> {
        self.machine.view(service, backend, Instant::now())
    }

    /// Until everything is written.
    pub(super) async fn written(self) {
        self.kept.written().await;
    }

    fn keep(&mut self) {
        self.kept.keep(store::text(self.machine.commands()));
    }

    fn take(&mut self, name: &Name, configured: State, state: State, deadline: Option<Duration>) -> String {
        let command = Command { state, since: SystemTime::now(), deadline };
        let changed = self.machine.command(name, configured, command, Instant::now());
        let already = if changed { "" } else { " already" };
        let line = format!("{name}: {}{already}", word(state));
        tracing::info!("{line}, by command");
        line
    }
}

impl Daemon {
    /// Takes backends out or back in; all that the name names, or none.
    pub(super) fn take(&mut self, take: &Take) -> Result<Applied, Applied> {
        let deadline = take.deadline_seconds.map(Duration::from_secs);
        let names = match admin::resolve(&take.backend, &self.config) {
            Ok(names) => names,
            Err(error) => return Err(Applied { lines: vec![error.to_string()] }),
        };
        let lines = names.iter().map(|name| {
            let configured = configured(&self.config, name);
            self.admin.take(name, configured, take.state.into(), deadline)
        });
        let lines = lines.collect();
        self.admin.keep();
        self.reconcile();
        Ok(Applied { lines })
    }
}

fn configured(config: &Config, name: &Name) -> State {
    let service = config.services.iter().find(|service| service.name == name.service);
    let backend = service.and_then(|s| s.backends.iter().find(|backend| backend.socket() == name.backend));
    backend.map_or(State::Active, |backend| backend.admin)
}

const fn word(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Drain => "draining",
        State::Disabled => "disabled",
    }
}
