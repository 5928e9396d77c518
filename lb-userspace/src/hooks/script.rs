//! A program that is run once for every transition, one run after the other.

use std::sync::{Arc, Mutex};

use super::queue::Queue;
use super::{Outcome, Transition, lock, word};
use crate::config::model::HookScript;
use crate::program::Program;

pub(super) async fn work(
    name: String,
    script: HookScript,
    queue: Arc<Queue<Transition>>,
    outcome: Arc<Mutex<Outcome>>,
) {
    let program = Program::new(&script.command, script.user.as_deref());
    while let Some(transition) = queue.first().await {
        let finished = program.run(arguments(&transition), variables(&transition), script.timeout).await;
        {
            let mut outcome = lock(&outcome);
            outcome.succeed();
            if let Err(error) = finished.result {
                outcome.failed = outcome.failed.saturating_add(1);
                tracing::warn!("hook {name}: {error}");
                outcome.error = Some(error.to_string());
            }
        }
        if let Some(left) = finished.left {
            left.end().await;
        }
        queue.done();
    }
}

fn arguments(transition: &Transition) -> Vec<String> {
    vec![transition.instance.clone(), word(transition.to).to_owned(), transition.priority.to_string()]
}

fn variables(transition: &Transition) -> Vec<(&'static str, String)> {
    vec![
        ("EVENKEEL_INSTANCE", transition.instance.clone()),
        ("EVENKEEL_FROM", word(transition.from).to_owned()),
        ("EVENKEEL_STATE", word(transition.to).to_owned()),
        ("EVENKEEL_PRIORITY", transition.priority.to_string()),
        // A zero byte ends a variable: a program with one would not be started.
        ("EVENKEEL_REASON", transition.reason.replace('\0', " ")),
    ]
}
