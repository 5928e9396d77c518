//! Which backends the operator wants in, and since when not. Pure: time is passed in.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use super::Name;
use crate::config::model::{Admin, Backend, Config, Service};

/// What a backend may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// New flows.
    Active,
    /// Packets of the flows it has.
    Draining,
    /// Nothing: it is disabled, or its time to drain is over.
    Out,
}

/// A command in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    pub state: Admin,
    pub since: SystemTime,
    /// Instead of the service's time to drain.
    pub deadline: Option<Duration>,
}

/// What is shown of a backend that is not active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub standing: Standing,
    pub state: Admin,
    pub since: SystemTime,
    pub by_command: bool,
    /// Time left to drain; `None`: until its flows end, or it does not drain.
    pub left: Option<Duration>,
}

#[derive(Debug, Default)]
pub struct Machine {
    commands: BTreeMap<Name, Command>,
    /// Since when a backend is not active.
    began: BTreeMap<Name, Began>,
}

#[derive(Debug, Clone, Copy)]
struct Began {
    state: Admin,
    at: Instant,
    since: SystemTime,
}

impl Machine {
    /// Goes on with the commands of an earlier daemon.
    #[must_use]
    pub fn new(commands: BTreeMap<Name, Command>, now: Instant, wall: SystemTime) -> Self {
        let began = |command: &Command| {
            // A clock that was set back makes it begin now.
            let passed = wall.duration_since(command.since).unwrap_or_default();
            Began { state: command.state, at: now.checked_sub(passed).unwrap_or(now), since: command.since }
        };
        let began = commands.iter().map(|(name, command)| (name.clone(), began(command))).collect();
        Self { commands, began }
    }

    /// Takes a command; `Active` takes an earlier one back. Whether anything is different now.
    pub fn command(&mut self, name: &Name, configured: Admin, command: Command, now: Instant) -> bool {
        let before = self.commands.get(name).copied();
        if command.state == configured && command.deadline.is_none() {
            self.commands.remove(name);
        } else if before.is_none_or(|b| (b.state, b.deadline) != (command.state, command.deadline)) {
            self.commands.insert(name.clone(), command);
        }
        let after = self.commands.get(name).copied();
        self.enter(name, after.map_or(configured, |command| command.state), now, command.since);
        before != after
    }

    /// Follows a configuration. Commands for backends that it does not have are forgotten; whether there were any.
    pub fn configure(&mut self, config: &Config, now: Instant, wall: SystemTime) -> bool {
        let mut known = BTreeSet::new();
        for service in &config.services {
            for backend in &service.backends {
                let name = name(service, backend);
                let state = self.state(&name, backend.admin);
                self.enter(&name, state, now, wall);
                known.insert(name);
            }
        }
        let before = self.commands.len();
        self.commands.retain(|name, _| known.contains(name));
        self.began.retain(|name, _| known.contains(name));
        self.commands.len() != before
    }

    fn enter(&mut self, name: &Name, state: Admin, now: Instant, wall: SystemTime) {
        if state == Admin::Active {
            self.began.remove(name);
        } else if self.began.get(name).is_none_or(|began| began.state != state) {
            self.began.insert(name.clone(), Began { state, at: now, since: wall });
        }
    }

    fn state(&self, name: &Name, configured: Admin) -> Admin {
        self.commands.get(name).map_or(configured, |command| command.state)
    }

    #[must_use]
    pub fn standing(&self, service: &Service, backend: &Backend, now: Instant) -> Standing {
        self.view(service, backend, now).map_or(Standing::Active, |view| view.standing)
    }

    /// `None` for a backend that is active.
    #[must_use]
    pub fn view(&self, service: &Service, backend: &Backend, now: Instant) -> Option<View> {
        let name = name(service, backend);
        let state = self.state(&name, backend.admin);
        let command = self.commands.get(&name);
        let began = self.began.get(&name);
        let deadline = command.and_then(|command| command.deadline).or(service.drain);
        let passed = began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began.at));
        let standing = match state {
            Admin::Active => return None,
            Admin::Drain if deadline.is_none_or(|deadline| passed < deadline) => Standing::Draining,
            Admin::Drain | Admin::Disabled => Standing::Out,
        };
        Some(View {
            standing,
            state,
            since: began.map_or(SystemTime::UNIX_EPOCH, |began| began.since),
            by_command: command.is_some(),
            left: deadline
                .filter(|_| standing == Standing::Draining)
                .map(|deadline| deadline.saturating_sub(passed)),
        })
    }

    /// Commands in force.
    #[must_use]
    pub const fn commands(&self) -> &BTreeMap<Name, Command> {
        &self.commands
    }
}

fn name(service: &Service, backend: &Backend) -> Name {
    Name { service: service.name.clone(), backend: backend.socket() }
}
