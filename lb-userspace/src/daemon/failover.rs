//! Masterships that change: by command, and who is told.

use std::time::SystemTime;

use tokio::sync::oneshot;

use super::Daemon;
use super::control::{Applied, GiveAway};
use super::instances::UnknownInstance;
use crate::config::model::{Config, Instance};
use crate::health::State;
use crate::hooks::Transition;
use crate::status::InstanceState;
use crate::vrrp::Event;

impl Daemon {
    /// Answers when it is done: the daemon's task does not wait for an election.
    pub(super) fn give_away(&self, give_away: GiveAway, answer: oneshot::Sender<Result<Applied, Applied>>) {
        let GiveAway { instance, undo } = give_away;
        let line = |text: String| Applied { lines: vec![text] };
        let unknown = |error: UnknownInstance| line(error.to_string());
        // Whoever asked may have gone meanwhile.
        if undo {
            let taken = self.instances.take_back(&instance).map_err(unknown);
            drop(answer.send(taken.and_then(|taken| match taken {
                Ok(()) => Ok(line(format!("{instance}: takes part in elections as configured again"))),
                Err(error) => Err(line(error.to_string())),
            })));
            return;
        }
        let failover = match self.instances.failover(&instance) {
            Ok(failover) => failover,
            Err(error) => return drop(answer.send(Err(unknown(error)))),
        };
        tracing::info!(instance, "giving the mastership away, by command");
        tokio::spawn(async move {
            let given = failover.run().await;
            drop(answer.send(match given {
                Ok(reason) => Ok(line(format!(
                    "{instance}: backup now: {reason}; it stays so while another node is master, until `evenkeel failover \
                     --undo {instance}`"
                ))),
                Err(error) => Err(line(error.to_string())),
            }));
        });
    }

    pub(super) fn handle_event(&mut self, event: Event) {
        tracing::debug!(?event, "VRRP");
        let Event::Transition { instance, from, to, priority, reason } = event else { return };
        self.follow_master(&instance, to);
        let (at, reason) = (SystemTime::now(), reason.to_string());
        self.hooks.tell(&Transition { at, instance, from, to, priority, reason });
    }

    fn follow_master(&mut self, name: &str, state: InstanceState) {
        if let Some(instance) = configured(&self.config, name) {
            self.forwarding.follow_master(instance, state == InstanceState::Master);
        }
    }

    pub(super) fn look_at_masters(&mut self) {
        let running: Vec<_> = self.instances.running().collect();
        let states = running.iter().filter_map(|running| {
            let instance = configured(&self.config, &running.name)?;
            Some((instance, running.state == InstanceState::Master))
        });
        self.forwarding.look_at_masters(states);
    }

    /// What instances that track services need to know of them.
    pub(super) fn tell_of_services(&self) {
        for service in &self.config.services {
            let (mut up, mut checking) = (0, 0);
            for backend in &service.backends {
                match self.checks.state(service, backend) {
                    State::Up => up += 1,
                    State::Checking => checking += 1,
                    State::Down => {}
                }
            }
            self.instances.service(&service.name, up, checking);
        }
    }
}

fn configured<'a>(config: &'a Config, name: &str) -> Option<&'a Instance> {
    config.vrrp.iter().find(|instance| instance.name == name)
}
