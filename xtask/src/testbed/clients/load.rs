//! A load: clients that ask again and again, until told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::testbed::Host;

/// Asks once and returns who answered, or what went wrong.
pub trait Client: Send + 'static {
    /// # Errors
    /// There was no good answer.
    fn ask(&mut self) -> Result<String>;
}

/// Runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Result<Report>>>,
}

/// What the clients saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub sent: u64,
    pub failed: u64,
    /// The longest time that one of the clients was without an answer.
    pub gap: Duration,
    /// Answers by who gave them.
    pub answers: BTreeMap<String, u64>,
    /// Failures by what went wrong.
    pub errors: BTreeMap<String, u64>,
}

impl Load {
    /// Starts `clients` clients on `host`, each with this pause between two requests.
    #[must_use]
    pub fn start<C: Client>(host: &Host, clients: usize, pause: Duration, make: impl Fn() -> C) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let workers = (0..clients).map(|_| {
            let (host, client, stop, answered) = (host.clone(), make(), stop.clone(), answered.clone());
            thread::spawn(move || {
                host.enter_thread()?;
                Ok(work(client, pause, &stop, &answered))
            })
        });
        Self { workers: workers.collect(), stop, answered }
    }

    /// Answers so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets it go on for a while, then stops it.
    ///
    /// # Errors
    /// A client could not run at all.
    pub fn stop_after(self, time: Duration) -> Result<Report> {
        thread::sleep(time);
        self.stop()
    }

    /// # Errors
    /// A client could not run at all.
    pub fn stop(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Report::default();
        for worker in self.workers.drain(..) {
            total.add(worker.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(total)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.gap = self.gap.max(other.gap);
        for (who, count) in other.answers {
            *self.answers.entry(who).or_default() += count;
        }
        for (what, count) in other.errors {
            *self.errors.entry(what).or_default() += count;
        }
    }

    /// Part of the answers that `who` gave, 0 to 1.
    #[must_use]
    pub fn share(&self, who: &str) -> f64 {
        let all: u64 = self.answers.values().sum();
        let count = self.answers.get(who).copied().unwrap_or(0);
        if all == 0 { 0.0 } else { count as f64 / all as f64 }
    }
}

fn work(mut client: impl Client, pause: Duration, stop: &AtomicBool, answered: &AtomicU64) -> Report {
    let mut report = Report::default();
    let mut last_answer = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        report.sent += 1;
        match client.ask() {
            Ok(who) => {
                let now = Instant::now();
                report.gap = report.gap.max(now - last_answer);
                last_answer = now;
                *report.answers.entry(who).or_default() += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                report.failed += 1;
                *report.errors.entry(format!("{error:#}")).or_default() += 1;
            }
        }
        thread::sleep(pause);
    }
    // The request under way when it was stopped is no gap, unless it failed.
    if report.failed > 0 {
        report.gap = report.gap.max(last_answer.elapsed());
    }
    report
}
