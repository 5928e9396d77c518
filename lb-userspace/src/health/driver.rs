//! When to probe, and how many at once: one task a check.
//!
//! Every task waits for its next time, for one of `AT_ONCE` turns, and for room in the channel of reports; it never
//! runs two probes of its own at once. A probe that is late starts at once, so that a timeout as long as the period does
//! not double the time to detect a failure; further times missed meanwhile are skipped.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::probe::{self, ProbeError};
use super::{ProbeKey, Report};
use crate::config::model::{Check, CheckKind};

/// Probes in flight: bounds sockets, and what one node sends in one instant.
const AT_ONCE: usize = 256;

/// Probes over the network, or a stand-in for it.
pub trait Probe: Clone + Send + Sync + 'static {
    fn probe(
        &self,
        kind: &CheckKind,
        target: SocketAddr,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), ProbeError>> + Send;
}

#[derive(Debug, Clone, Copy)]
pub struct Network;

impl Probe for Network {
    async fn probe(&self, kind: &CheckKind, target: SocketAddr, timeout: Duration) -> Result<(), ProbeError> {
        probe::probe(kind, target, timeout).await
    }
}

/// Runs the checks it was told to; dropped, it stops them all.
#[derive(Debug)]
pub struct Prober<P = Network> {
    probe: P,
    turns: Arc<Semaphore>,
    reports: mpsc::Sender<Report>,
    running: BTreeMap<ProbeKey, Task>,
}

impl Prober {
    /// Sends what it finds to `reports`; while that is full, probes wait.
    #[must_use]
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self::with_probe(Network, reports)
    }
}

impl<P: Probe> Prober<P> {
    #[must_use]
    pub fn with_probe(probe: P, reports: mpsc::Sender<Report>) -> Self {
        Self { probe, turns: Arc::new(Semaphore::new(AT_ONCE)), reports, running: BTreeMap::new() }
    }

    /// Makes `wanted` the checks that run: starts the new ones at once, stops those that are gone, restarts those whose
    /// probes change, and does not disturb the others. `rise` and `fall` are not its business.
    ///
    /// A report sent before this call may still be in the channel, even of a check that is gone.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn apply(&mut self, wanted: BTreeMap<ProbeKey, Check>) {
        self.running.retain(|key, task| wanted.get(key).is_some_and(|check| task.plan == Plan::of(check)));
        for (key, check) in wanted {
            if self.running.contains_key(&key) {
                continue;
            }
            let plan = Plan::of(&check);
            let run =
                run(self.probe.clone(), key.clone(), plan.clone(), self.turns.clone(), self.reports.clone());
            self.running.insert(key, Task { plan, handle: tokio::spawn(run) });
        }
    }
}

#[derive(Debug)]
struct Task {
    plan: Plan,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// What of a check decides how it is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    kind: CheckKind,
    every: Duration,
    timeout: Duration,
}

impl Plan {
    fn of(check: &Check) -> Self {
        // A timer of zero length panics.
        let every = check.every.max(Duration::from_millis(1));
        Self { kind: check.kind.clone(), every, timeout: check.timeout }
    }
}

async fn run<P: Probe>(
    probe: P,
    key: ProbeKey,
    plan: Plan,
    turns: Arc<Semaphore>,
    reports: mpsc::Sender<Report>,
) {
    let mut times = interval_at(Instant::now() + first_pause(&key, plan.every), plan.every);
    times.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let Ok(turn) = turns.acquire().await else { return };
        let started = Instant::now();
        let result = probe.probe(&plan.kind, key.backend, plan.timeout).await;
        let took = started.elapsed();
        drop(turn);
        if reports.send(Report { key: key.clone(), result, took }).await.is_err() {
            return;
        }
        times.tick().await;
    }
}

/// From the first probe to the second: half of `every` to all of it, so that checks that start together spread out
/// and none waits longer than it was told.
fn first_pause(key: &ProbeKey, every: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let part = hasher.finish() as f64 / u64::MAX as f64;
    every.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    const EVERY: Duration = Duration::from_secs(2);
    const TIMEOUT: Duration = Duration::from_secs(1);

    fn check() -> Check {
        Check { kind: CheckKind::Tcp, port: None, every: EVERY, timeout: TIMEOUT, rise: 1, fall: 1 }
    }

    fn key(port: u16) -> ProbeKey {
        ProbeKey { service: "web".to_owned(), backend: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn wanted(ports: impl IntoIterator<Item = u16>) -> BTreeMap<ProbeKey, Check> {
        ports.into_iter().map(|port| (key(port), check())).collect()
    }

    /// Remembers when each probe started and how many ran at once.
    #[derive(Clone, Default)]
    struct Recorder {
        first_lasts: Duration,
        others_last: Duration,
        started: Arc<Mutex<Vec<(u16, Instant)>>>,
        running: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl Probe for Recorder {
        async fn probe(&self, _: &CheckKind, target: SocketAddr, _: Duration) -> Result<(), ProbeError> {
            let first = self.starts(target.port()).is_empty();
            self.started.lock().unwrap().push((target.port(), Instant::now()));
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            tokio::time::sleep(if first { self.first_lasts } else { self.others_last }).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    }

    impl Recorder {
        fn lasting(first_lasts: Duration, others_last: Duration) -> Self {
            Self { first_lasts, others_last, ..Self::default() }
        }

        fn starts(&self, port: u16) -> Vec<Instant> {
            self.started.lock().unwrap().iter().filter(|(p, _)| *p == port).map(|(_, at)| *at).collect()
        }
    }

    /// A prober whose reports are all taken.
    fn prober(recorder: &Recorder) -> (Prober<Recorder>, JoinHandle<Vec<Report>>) {
        let (sender, mut receiver) = mpsc::channel(8);
        let taking = tokio::spawn(async move {
            let mut reports = Vec::new();
            while let Some(report) = receiver.recv().await {
                reports.push(report);
            }
            reports
        });
        (Prober::with_probe(recorder.clone(), sender), taking)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_probe_is_at_once_and_the_others_every_period() {
        let recorder = Recorder::default();
        let (mut prober, reports) = prober(&recorder);
        let start = Instant::now();
        prober.apply(wanted([1]));
        tokio::time::sleep(10 * EVERY).await;
        drop(prober);

        let starts = recorder.starts(1);
        assert_eq!(starts[0], start);
        assert!((EVERY / 2..=EVERY).contains(&(starts[1] - starts[0])));
        assert!(starts[1..].windows(2).all(|pair| pair[1] - pair[0] == EVERY), "{starts:?}");
        assert_eq!(reports.await.unwrap().len(), starts.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_checks_spread_out_after_the_first_round() {
        let recorder = Recorder::default();
        let (mut prober, _reports) = prober(&recorder);
        prober.apply(wanted(1..=1000));
        tokio::time::sleep(EVERY * 5 / 4).await;
        let second: BTreeSet<_> = (1..=1000).map(|port| recorder.starts(port)[1]).collect();
        assert!(second.len() > 500, "only {} different times", second.len());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_probes_run_than_there_are_turns_and_waiting_is_not_counted() {
        let recorder = Recorder::lasting(TIMEOUT, TIMEOUT);
        let (mut prober, reports) = prober(&recorder);
        prober.apply(wanted(1..=1000));
        tokio::time::sleep(10 * EVERY).await;
        drop(prober);
        assert_eq!(recorder.most.load(Ordering::SeqCst), AT_ONCE);
        let reports = reports.await.unwrap();
        assert!(reports.iter().all(|report| report.took == TIMEOUT));
        let reported: BTreeSet<_> = reports.iter().map(|report| report.key.backend.port()).collect();
        assert_eq!(reported.len(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_probe_starts_at_once_and_missed_times_are_not_made_up_for() {
        let slow = 10 * EVERY;
        let recorder = Recorder::lasting(slow, Duration::ZERO);
        let (mut prober, _reports) = prober(&recorder);
        prober.apply(wanted([1]));
        tokio::time::sleep(2 * slow).await;
        let starts = recorder.starts(1);
        assert_eq!(starts[1] - starts[0], slow);
        assert!(starts[2] - starts[1] <= EVERY);
        assert!(starts[2..].windows(2).all(|pair| pair[1] - pair[0] == EVERY), "{starts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn apply_starts_stops_and_restarts_only_what_differs() {
        let recorder = Recorder::default();
        let (mut prober, _reports) = prober(&recorder);
        let start = Instant::now();
        prober.apply(wanted([1, 2, 3]));
        tokio::time::sleep(10 * EVERY).await;

        let changed_at = Instant::now();
        let mut next = wanted([1, 3, 4]);
        next.insert(key(1), Check { rise: 9, fall: 9, ..check() });
        next.insert(key(3), Check { timeout: EVERY, ..check() });
        prober.apply(next);
        tokio::time::sleep(10 * EVERY).await;

        let undisturbed = recorder.starts(1);
        assert_eq!(undisturbed[0], start);
        assert!(undisturbed[1..].windows(2).all(|pair| pair[1] - pair[0] == EVERY), "{undisturbed:?}");
        assert!(recorder.starts(2).iter().all(|at| *at < changed_at), "stopped");
        assert!(recorder.starts(3).contains(&changed_at), "restarted at once");
        assert_eq!(recorder.starts(4)[0], changed_at, "started at once");
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_it_stops_every_check() {
        let recorder = Recorder::default();
        let (mut prober, reports) = prober(&recorder);
        prober.apply(wanted(1..=10));
        tokio::time::sleep(EVERY / 4).await;
        drop(prober);
        assert_eq!(reports.await.unwrap().len(), 10);
        tokio::time::sleep(10 * EVERY).await;
        assert_eq!(recorder.started.lock().unwrap().len(), 10);
    }

    #[tokio::test]
    async fn real_servers_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serving = listener.local_addr().unwrap().port();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (sender, mut reports) = mpsc::channel(8);
        let mut prober = Prober::new(sender);
        let long = Duration::from_secs(3600);
        let checks = wanted([serving, closed]).into_iter();
        prober
            .apply(checks.map(|(key, check)| (key, Check { every: long, timeout: long, ..check })).collect());

        let mut results = BTreeMap::new();
        for _ in 0..2 {
            let report = reports.recv().await.unwrap();
            results.insert(report.key, report.result);
        }
        assert_eq!(results[&key(serving)], Ok(()));
        assert_eq!(results[&key(closed)], Err(ProbeError::Refused));
    }
}
