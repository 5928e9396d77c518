//! What the keeper writes to the log.

use crate::vrrp::log::log;

/// Changes that one line names; of more it says how many.
const NAMED: usize = 4;

pub(super) fn log_problem(problem: String) {
    log(move || tracing::warn!("virtual addresses: {problem}"));
}

/// What was done in a round, for the log.
#[derive(Debug, Default)]
pub(super) struct Changes {
    named: Vec<String>,
    more: usize,
}

impl Changes {
    pub(super) fn count(&mut self, describe: impl FnOnce() -> String) {
        if self.named.len() < NAMED {
            self.named.push(describe());
        } else {
            self.more += 1;
        }
    }

    pub(super) fn log(self) {
        if self.named.is_empty() {
            return;
        }
        let Self { named, more } = self;
        log(move || {
            let named = named.join(", ");
            if more == 0 {
                tracing::info!("virtual addresses: {named}");
            } else {
                tracing::info!("virtual addresses: {named} and {more} more changes");
            }
        });
    }
}
