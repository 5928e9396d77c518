//! The thread that keeps everything.

mod announcing;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::announcer::Announcer;
use super::apply::Applier;
use super::changes::{Changes, log_problem};
use super::kernel::Kernel;
use super::mirror::{Mirror, Names};
use super::plan::{Step, adopted, plan};
use super::refuser::Refuser;
use super::refusing::Refusing;
use super::seen::{Primaries, seen};
use super::target::{Group, Target};
use super::{Guard, Registered, Seen, Wanted};
use crate::net::netlink::BATCH;
use crate::vrrp::thing::Thing;

const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Notifications may be lost, and some changes have none.
const READ_EVERY: Duration = Duration::from_secs(30);
/// Bounds the work when somebody keeps changing the host.
const MIN_GAP: Duration = Duration::from_millis(20);
const ANNOUNCE_GAP: Duration = Duration::from_millis(1);
/// Plans in a row before whoever keeps changing the host makes them wait.
const PLANS: u32 = 16;
/// At the end of the daemon; the guard goes on.
const RELEASE_ATTEMPTS: u32 = 3;

#[derive(Debug)]
struct Entry {
    name: String,
    receiver: watch::Receiver<Wanted>,
    wanted: Wanted,
    seen: watch::Sender<Option<Seen>>,
    released: oneshot::Sender<()>,
    bursts: u64,
}

#[derive(Debug)]
pub(super) struct Worker {
    registered: mpsc::UnboundedReceiver<Registered>,
    /// No more can come.
    closed: bool,
    /// Told when any group wants something else.
    wake: Arc<Notify>,
    entries: BTreeMap<Group, Entry>,
    next: Group,
    /// Of groups that have ended, until what they held is gone.
    leaving: Vec<oneshot::Sender<()>>,
    kernel: Option<Kernel>,
    mirror: Mirror,
    names: Names,
    target: Target,
    applier: Applier,
    refuser: Refuser,
    announcer: Announcer,
    read_due: Instant,
    routes_due: bool,
    settings_due: bool,
    /// Told that the host's own filter is too strict.
    told_strict: bool,
    failing: bool,
    /// There is more to do than one round may.
    unfinished: bool,
}

impl Worker {
    pub(super) fn new(
        guard: Guard,
        refuser: Refuser,
        registered: mpsc::UnboundedReceiver<Registered>,
    ) -> Self {
        Self {
            registered,
            closed: false,
            wake: Arc::new(Notify::new()),
            entries: BTreeMap::new(),
            next: 0,
            leaving: Vec::new(),
            kernel: None,
            mirror: Mirror::default(),
            names: Names::default(),
            target: Target::default(),
            applier: Applier::new(guard),
            refuser,
            announcer: Announcer::default(),
            read_due: Instant::now(),
            routes_due: false,
            settings_due: false,
            told_strict: false,
            failing: false,
            unfinished: false,
        }
    }

    /// Runs until nobody wants anything any more and nobody can.
    pub(super) async fn run(mut self) {
        let mut attempts = 0;
        loop {
            self.take_wanted();
            let ending = self.closed && self.entries.is_empty();
            let done = self.round();
            attempts += 1;
            if ending && (done || attempts >= RELEASE_ATTEMPTS) {
                return;
            }
            if !ending {
                attempts = 0;
                self.next_cause().await;
            }
        }
    }

    /// Waits for a reason for another round, announcing meanwhile.
    async fn next_cause(&mut self) {
        let began = Instant::now();
        let pause = match (self.unfinished || self.refuser.is_unfinished(), self.failing) {
            (true, _) => MIN_GAP,
            (false, true) => RETRY_EVERY,
            (false, false) => READ_EVERY,
        };
        let mut due = self.read_due.max(began).min(began + pause);
        let mut announce = began;
        loop {
            let announcing = !self.announcer.is_empty();
            tokio::select! {
                biased;
                () = self.wake.notified() => return,
                registered = self.registered.recv(), if !self.closed => {
                    match registered {
                        Some(registered) => self.register(registered),
                        None => self.closed = true,
                    }
                    return;
                }
                () = sleep_until(due) => return,
                () = readable(self.kernel.as_ref()) => {
                    if self.learn() {
                        due = due.min(began + MIN_GAP);
                    }
                }
                () = sleep_until(announce), if announcing => {
                    let sent = self.announcer.send(&self.target);
                    self.log_announcing(sent.map(drop));
                    announce = Instant::now() + ANNOUNCE_GAP;
                }
            }
        }
    }

    fn register(&mut self, registered: Registered) {
        let Registered { name, wanted: receiver, seen, released } = registered;
        let (mut changes, wake) = (receiver.clone(), self.wake.clone());
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                wake.notify_one();
            }
            wake.notify_one();
        });
        let wanted = receiver.borrow().clone();
        let entry = Entry { name, receiver, wanted, seen, released, bursts: 0 };
        self.entries.insert(self.next, entry);
        self.next += 1;
    }

    /// Takes what the groups want now.
    fn take_wanted(&mut self) {
        while let Ok(registered) = self.registered.try_recv() {
            self.register(registered);
        }
        let mut gone = Vec::new();
        for (group, entry) in &mut self.entries {
            match entry.receiver.has_changed() {
                Ok(true) => entry.wanted = entry.receiver.borrow_and_update().clone(),
                Ok(false) => {}
                Err(_) => gone.push(*group),
            }
        }
        for group in gone {
            if let Some(entry) = self.entries.remove(&group) {
                self.leaving.push(entry.released);
            }
        }
    }

    fn is_told_more(&self) -> bool {
        !self.registered.is_empty()
            || self.entries.values().any(|entry| entry.receiver.has_changed().unwrap_or(true))
    }

    /// Makes the host what it should be; whether that succeeded.
    fn round(&mut self) -> bool {
        match self.read_if_due().and_then(|()| self.plan_and_apply()) {
            Ok(failed) => {
                if let Some((step, error)) = &failed
                    && !std::mem::replace(&mut self.failing, true)
                {
                    log_problem(format!("cannot {step}: {error}; trying again every second"));
                }
                self.failing = failed.is_some();
            }
            Err(error) => {
                self.kernel = None;
                self.unfinished = false;
                self.read_due = Instant::now() + RETRY_EVERY;
                if !std::mem::replace(&mut self.failing, true) {
                    log_problem(format!("{error:#}; trying again every second"));
                }
            }
        }
        !self.failing && !self.unfinished
    }

    /// The first step that failed, with why.
    fn plan_and_apply(&mut self) -> anyhow::Result<Option<(String, String)>> {
        let mut first = None;
        let mut failed = BTreeSet::new();
        let mut releasing = false;
        let mut changes = Changes::default();
        self.unfinished = true;
        for _ in 0..PLANS {
            let began = Instant::now();
            let mut steps = self.plan()?;
            self.answer_bursts();
            self.announce_returned();
            steps.retain(|step| !failed.contains(step));
            if steps.is_empty() {
                self.unfinished = false;
                break;
            }
            let took = began.elapsed();
            for chunk in steps.chunks(BATCH) {
                let Some(kernel) = &mut self.kernel else { break };
                let answers = self.applier.apply(&mut kernel.requests, chunk, &mut self.mirror)?;
                for (step, answer) in chunk.iter().zip(answers) {
                    match (step, answer) {
                        (_, Err(error)) if is_outdated(step, &error) => {
                            failed.insert(step.clone());
                            self.read_due = self.read_due.min(Instant::now() + RETRY_EVERY);
                        }
                        (_, Err(error)) => {
                            failed.insert(step.clone());
                            releasing |= matches!(step, Step::Remove(_) | Step::Lower(_));
                            first.get_or_insert_with(|| (self.describe(step), error.to_string()));
                        }
                        (Step::AddAddress(address, _), Ok(())) => {
                            self.announcer.add(*address);
                            changes.count(|| self.describe(step));
                        }
                        (_, Ok(())) => changes.count(|| self.describe(step)),
                    }
                }
                let sent = self.announcer.send_urgent(&self.target);
                self.log_announcing(sent);
                let changed = self.learn();
                // At least as long as a plan takes it is followed, so that many who want little do not keep each other waiting.
                if (changed || self.is_told_more()) && began.elapsed() > 2 * took {
                    break;
                }
                // Among threads of the same real-time priority no other gets its turn otherwise.
                std::thread::yield_now();
            }
            self.take_wanted();
        }
        changes.log();
        if !releasing && !self.unfinished {
            for released in self.leaving.drain(..) {
                // Nobody may wait for it.
                let _ = released.send(());
            }
        }
        Ok(first)
    }

    /// Tells the groups what there is, and finds what to do.
    fn plan(&mut self) -> anyhow::Result<Vec<Step>> {
        let wanted = || self.entries.values().map(|entry| &entry.wanted);
        self.names.refresh(&self.mirror, wanted().flat_map(Wanted::interfaces));
        if std::mem::take(&mut self.routes_due)
            && let Some(kernel) = &mut self.kernel
        {
            kernel.read_routes(&mut self.mirror)?;
        }
        let groups = self.entries.iter().map(|(group, entry)| (*group, &entry.wanted));
        self.target = Target::new(&self.mirror, &self.names, groups);
        self.mirror.arp = self.read_arp();
        if std::mem::take(&mut self.settings_due) {
            self.check_settings();
        }
        // Before the addresses change, so that the drivers learn early and never see their own.
        let mut primaries = Primaries::new(&self.mirror, &self.target);
        for entry in self.entries.values() {
            let seen = seen(&mut primaries, &self.names, &entry.wanted);
            entry.seen.send_if_modified(|last| last.replace(seen.clone()).as_ref() != Some(&seen));
        }
        self.applier.adopt(adopted(&self.mirror, &self.target, self.applier.held()));
        let refusing =
            Refusing::new(&self.mirror, &self.names, self.entries.values().map(|entry| &entry.wanted));
        self.refuser.follow(refusing, self.applier.held(), &self.target);
        Ok(plan(&self.mirror, &self.target, self.applier.held()))
    }

    /// For people: by name, not by number.
    fn describe(&self, step: &Step) -> String {
        let (Step::AddAddress(at, _) | Step::Remove(Thing::Address(at))) = step else {
            return step.to_string();
        };
        let interface = self.mirror.by_index(at.index).map_or("a lost interface", |link| &link.name);
        let group = self.target.addresses.get(at).and_then(|held| self.entries.get(&held.group));
        match group {
            Some(entry) => format!("{step} on {interface} ({})", entry.name),
            None => format!("{step} on {interface}"),
        }
    }
}

/// Whether it failed as its interface went meanwhile, which the next plan knows.
fn is_outdated(step: &Step, error: &io::Error) -> bool {
    let of_interface = match step {
        Step::Lower(_) | Step::Raise(_) | Step::MakeMacvlan(..) | Step::SetUp(..) | Step::AddAddress(..) => {
            true
        }
        Step::Remove(_) | Step::SetArp { .. } | Step::AddRoute(_) | Step::AddRule(_) => false,
    };
    of_interface && error.raw_os_error() == Some(libc::ENODEV)
}

/// Ready when something changed; never, without a connection.
async fn readable(kernel: Option<&Kernel>) {
    match kernel {
        Some(kernel) => kernel.readable().await,
        None => std::future::pending().await,
    }
}
