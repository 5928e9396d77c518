//! A new configuration in place.
#![deny(clippy::disallowed_methods)]

use std::time::Instant;

use super::super::backup::Watch;
use super::master::Rhythm;
use super::{Config, Machine, Priority, Reason, State};

impl Machine {
    /// Changes the configuration: an advertisement that is due stays due when it was, a running down timer keeps its
    /// start. A channel is the same if its interface, VRID and family are; one that is new counts as just heard, and
    /// nothing is known of its interface. Carry out all actions first: their channels are those of the old configuration.
    pub fn reconfigure(&mut self, config: Config, now: Instant) {
        self.call(now, |machine| machine.replace_config(config, now));
    }

    fn replace_config(&mut self, config: Config, now: Instant) {
        let old = std::mem::replace(&mut self.config, config);
        let kept: Vec<_> = self
            .config
            .channels
            .iter()
            .map(|channel| old.channels.iter().position(|before| before.is_the_same_as(channel)))
            .collect();
        let mut ends: Vec<_> = std::mem::take(&mut self.ends).into_iter().map(Some).collect();
        self.ends = kept.iter().map(|kept| kept.and_then(|at| ends[at].take()).unwrap_or_default()).collect();
        self.actions.resize(self.config.channels.len());
        self.carry_timers_over(&old, &kept, now);
        self.look_around(now);
    }

    /// `kept` says for each channel which one of the old configuration it was.
    fn carry_timers_over(&mut self, old: &Config, kept: &[Option<usize>], now: Instant) {
        let standing = self.standing();
        match &mut self.state {
            State::Init | State::Fault | State::Stopped => {}
            State::Leaving(leaving) => leaving.carry_over(kept),
            State::Backup(_) if self.config.priority == Priority::OWNER && !self.yielded => {
                self.become_master(Reason::Owner, now);
            }
            State::Backup(backup) => {
                let carried = |&kept: &Option<usize>| match kept {
                    Some(at) => backup.watches()[at],
                    None => Watch::new(None, now),
                };
                backup.rewatch(kept.iter().map(carried).collect());
                backup.reconsider(standing);
            }
            State::Master(master) => {
                let channels = self.config.channels.iter().zip(kept);
                let rhythms = channels.map(|(channel, &kept)| match kept {
                    Some(at) => {
                        let mut rhythm = master.rhythms[at];
                        if channel.interval != old.channels[at].interval {
                            rhythm.shorten(channel.interval);
                        }
                        rhythm
                    }
                    None => Rhythm::silent(channel, now),
                });
                master.rhythms = rhythms.collect();
            }
        }
    }
}
