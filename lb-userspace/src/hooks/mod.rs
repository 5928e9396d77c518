//! Tells the operator's programs of transitions, in order: scripts, each with a queue of its own, and a FIFO.
//!
//! Nobody who reports a transition waits for any of them. docs/hooks.md says what they are given.

mod fifo;
mod line;
mod queue;
mod script;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout_at};

use self::queue::Queue;
use crate::config::model::{self, HookScript};
use crate::status::InstanceState;

const FIFO_LIMIT: Duration = Duration::from_secs(1);

/// An instance has gone from one state to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub at: SystemTime,
    pub instance: String,
    pub from: InstanceState,
    pub to: InstanceState,
    /// The effective one, after it.
    pub priority: u8,
    pub reason: String,
}

/// How a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The path of the program or the FIFO, and ` #2` if another hook has it too. Arguments may be secret.
    pub hook: String,
    /// Transitions that it was told of; of a script also those that it failed at.
    pub told: u64,
    pub failed: u64,
    /// Given up because too many waited.
    pub dropped: u64,
    pub waiting: usize,
    /// Why it failed last, or why it is not told at present.
    pub error: Option<String>,
}

/// The hooks in force; dropped, they are told nothing more, and a script that runs is killed.
#[derive(Debug, Default)]
pub struct Hooks {
    /// In the order of the configuration.
    hooks: Vec<Hook>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Script(HookScript),
    Fifo(PathBuf),
}

#[derive(Debug)]
struct Hook {
    name: String,
    target: Target,
    queue: Arc<Queue<Transition>>,
    outcome: Arc<Mutex<Outcome>>,
    worker: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Outcome {
    told: u64,
    failed: u64,
    error: Option<String>,
}

impl Hooks {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes these the hooks. One that stays is not disturbed; one that is gone ends what it is at and is told nothing more.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn configure(&mut self, wanted: &model::Hooks) {
        let scripts = wanted.scripts.iter().cloned().map(Target::Script);
        let targets: Vec<_> = scripts.chain(wanted.fifo.clone().map(Target::Fifo)).collect();
        for hook in self.hooks.extract_if(.., |hook| !targets.contains(&hook.target)) {
            hook.queue.close();
            if matches!(hook.target, Target::Fifo(_)) {
                hook.worker.abort();
            }
        }
        for (index, target) in targets.into_iter().enumerate() {
            // The first `index` ones are in their places.
            match self.hooks.iter().position(|hook| hook.target == target) {
                Some(place) => self.hooks[index.min(place)..=place].rotate_right(1),
                None => {
                    let hook = Hook::start(self.free_name(&target), target);
                    self.hooks.insert(index.min(self.hooks.len()), hook);
                }
            }
        }
    }

    fn free_name(&self, target: &Target) -> String {
        let path = target.path();
        let names = (1_u32..).map(|number| match number {
            1 => path.clone(),
            _ => format!("{path} #{number}"),
        });
        let mut free = names.filter(|name| self.hooks.iter().all(|hook| hook.name != *name));
        free.next().expect("there are more numbers than hooks")
    }

    /// Tells all hooks of a transition; they hear of it in the order of these calls. Waits for nothing.
    pub fn tell(&self, transition: &Transition) {
        self.hooks.iter().for_each(|hook| hook.queue.push(transition.clone()));
    }

    /// For the end of the daemon: waits until all have been told of everything, or until the time is over. A FIFO has a
    /// second of it, as nobody may read it.
    pub async fn finish(self, limit: Duration) {
        let now = Instant::now();
        for hook in &self.hooks {
            let limit = match hook.target {
                Target::Script(_) => limit,
                Target::Fifo(_) => limit.min(FIFO_LIMIT),
            };
            if timeout_at(now + limit, hook.queue.wait_until_idle()).await.is_err() {
                tracing::warn!("hook {} is not told of everything: the daemon ends", hook.name);
            }
        }
    }

    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let report = |hook: &Hook| {
            let (waiting, dropped) = hook.queue.counts();
            let outcome = lock(&hook.outcome);
            let Outcome { told, failed, error } = &*outcome;
            let (hook, error) = (hook.name.clone(), error.clone());
            Report { hook, told: *told, failed: *failed, dropped, waiting, error }
        };
        self.hooks.iter().map(report).collect()
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.hooks.iter().for_each(|hook| hook.worker.abort());
    }
}

impl Hook {
    fn start(name: String, target: Target) -> Self {
        let queue = Arc::new(Queue::new());
        let outcome = Arc::default();
        let (its_queue, its_outcome) = (Arc::clone(&queue), Arc::clone(&outcome));
        let worker = match target.clone() {
            Target::Script(script) => {
                tokio::spawn(script::work(name.clone(), script, its_queue, its_outcome))
            }
            Target::Fifo(path) => tokio::spawn(fifo::work(path, its_queue, its_outcome)),
        };
        Self { name, target, queue, outcome, worker }
    }
}

impl Target {
    fn path(&self) -> String {
        match self {
            Self::Script(script) => script.command.first().cloned().unwrap_or_default(),
            Self::Fifo(path) => path.display().to_string(),
        }
    }
}

impl Outcome {
    fn succeed(&mut self) {
        self.told = self.told.saturating_add(1);
        self.error = None;
    }
}

fn lock(outcome: &Mutex<Outcome>) -> std::sync::MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As arguments, variables and JSON have it.
const fn word(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Init => "init",
        InstanceState::Backup => "backup",
        InstanceState::Master => "master",
        InstanceState::Fault => "fault",
    }
}
