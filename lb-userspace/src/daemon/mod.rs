//! The daemon: one task that owns all state. Drivers tell it of the world by channels, and it alone changes the maps.
//!
//! ```text
//! signals, file saved, control socket ─┐
//! probe reports ───────────────────────┤
//! VRRP events ─────────────────────────┼──► Daemon (one task) ──► checks, instances, forwarding
//! ways to the backends ────────────────┤
//! flow censuses ───────────────────────┤
//! once a second ───────────────────────┘
//! ```
//!
//! Nothing here may take long: a reload reads one file and writes some maps. The longest is to attach to an interface that
//! another program is just letting go of, which is waited for up to 500 ms. VRRP instances run on threads of their own and
//! do not notice.

mod admin;
mod checks;
pub mod control;
mod failover;
mod forwarding;
mod instances;
mod kept;
mod notify;
mod page;
mod reload;
mod signals;
mod snapshot;
mod watch;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio::sync::{mpsc, watch as watch_channel};

use crate::config::Host;
use crate::config::model::{self, Config, Flows};
use crate::dataplane::clock::{Clock, ClockError};
use crate::dataplane::expiry::Timeouts;
use crate::dataplane::sweep::{self, Census, Orders};
use crate::dataplane::{DataPlane, LoadError, Sizes};
use crate::desired::{Desired, Known, desired};
use crate::health::Report;
use crate::hooks::Hooks;
use crate::net::next_hop::Found;
use crate::net::path_mtu::PathMtu;
use crate::net::ways;
use crate::vrrp;
use crate::vrrp::Keeper;
use admin::Admin;
use checks::Checks;
use control::Command;
use forwarding::Forwarding;
use instances::Instances;
use kept::Kept;
use page::Page;
use reload::{ReloadError, Reloads, Source};
use signals::{Asked, Signals};

/// Where the daemon finds and keeps its things.
#[derive(Debug, Clone)]
pub struct Options {
    pub config: PathBuf,
    /// Control socket and lock.
    pub run_dir: PathBuf,
    /// Pinned maps and links, on a bpf file system.
    pub bpf_dir: PathBuf,
    /// What outlives a stop: the configuration that was applied last.
    pub state_dir: PathBuf,
}

#[derive(Debug, Error)]
pub enum RunError {
    #[error("cannot use {}: {source}", path.display())]
    RunDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another evenkeel runs with {}", .0.display())]
    AlreadyRunning(PathBuf),
    #[error(transparent)]
    Configuration(#[from] ReloadError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Clock(#[from] ClockError),
    #[error(transparent)]
    Sweep(#[from] sweep::StartError),
    #[error(transparent)]
    Control(#[from] control::SocketError),
    #[error("cannot follow routes and neighbours: {0}")]
    Netlink(#[source] io::Error),
    #[error("cannot take signals: {0}")]
    Signals(#[source] io::Error),
}

/// Reports and events waiting for the daemon's task.
const WAITING: usize = 1024;
/// Puts back what somebody else changed, and follows what changes with time.
const SWEEP: Duration = Duration::from_secs(1);
/// For the ways to backends to be found after the start, or after a check was heard of.
const WAYS_FOUND: Duration = Duration::from_secs(1);
/// For hooks to be told of the end.
const HOOKS_END: Duration = Duration::from_secs(5);
/// An editor writes a file in several steps.
const SAVE_SETTLES: Duration = Duration::from_millis(100);

pub(crate) struct Daemon {
    options: Options,
    started_at: SystemTime,
    config: Config,
    forwarding: Forwarding,
    checks: Checks,
    instances: Instances,
    reloads: Reloads,
    hooks: Hooks,
    page: Page,
    last_applied: Kept,
    admin: Admin,
    clock: Clock,
    commands: mpsc::Sender<Command>,
    destinations: watch_channel::Sender<BTreeSet<IpAddr>>,
    path_mtu: PathMtu,
    /// Ways are being looked for.
    looks_until: Instant,
}

/// What the drivers say.
struct Inbox {
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<Report>,
    events: mpsc::Receiver<vrrp::Event>,
    ways: mpsc::Receiver<Found>,
    censuses: mpsc::Receiver<Census>,
}

/// Runs until SIGTERM or SIGINT. The program stays attached and flows stay in place, for the daemon that comes next.
///
/// # Errors
/// What kept it from starting; once it runs, trouble is logged and shown in the status.
pub async fn run(options: Options, keeper: Keeper) -> Result<(), RunError> {
    let mut signals = Signals::install().map_err(RunError::Signals)?;
    let _lock = lock(&options.run_dir)?;
    let host = Host::read().map_err(ReloadError::Host)?;
    let wanted = Source::read(&options.config, &host);
    let last = Source::read(&kept::last_applied(&options.state_dir), &host);
    let (wanted, last) = match (wanted, last) {
        (Err(error), Err(_)) => return Err(error.into()),
        (wanted, last) => (wanted, last.ok()),
    };
    let flows = wanted.as_ref().ok().or(last.as_ref()).map(Source::flows).unwrap_or_default();
    let (mut daemon, mut inbox) = start(options, keeper, &flows)?;
    if signals.stop_asked() {
        tracing::info!("stopping before anything was changed");
        return Ok(());
    }
    daemon.begin(wanted, last).await?;
    control::serve(&daemon.options.run_dir, daemon.commands.clone())?;
    tracing::info!("running: {}", reload::summary(&daemon.config));
    daemon.serve(&mut inbox, signals).await;
    notify::notify(notify::STOPPING);
    tracing::info!("stopping: giving addresses away; the program stays attached");
    // Whoever asks now is told at once that the daemon stops.
    inbox.commands.close();
    daemon.instances.stop().await;
    while let Ok(event) = inbox.events.try_recv() {
        daemon.handle_event(event);
    }
    daemon.hooks.finish(HOOKS_END).await;
    daemon.last_applied.written().await;
    daemon.admin.written().await;
    Ok(())
}

/// Loads the program over what an earlier daemon left, and starts the drivers.
fn start(options: Options, keeper: Keeper, flows: &Flows) -> Result<(Daemon, Inbox), RunError> {
    let mut plane = DataPlane::load(&options.bpf_dir, Sizes::of(flows.ipv4, flows.ipv6))?;
    let clock = Clock::measure(&mut plane)?;
    plane.log();
    let (commands, command_inbox) = mpsc::channel(control::WAITING);
    let (reports, report_inbox) = mpsc::channel(WAITING);
    let (events, event_inbox) = mpsc::channel(WAITING);
    let (found, way_inbox) = mpsc::channel(1);
    let (censuses, census_inbox) = mpsc::channel(1);
    let (destinations, wanted) = watch_channel::channel(BTreeSet::new());
    let timeouts = timeouts(flows);
    let sweep = match plane.sweeper.take() {
        Some(sweeper) => {
            let orders = Orders { timeouts, ..Orders::default() };
            Some(sweep::start(sweeper, clock, orders, censuses)?)
        }
        None => None,
    };
    ways::start(wanted, found).map_err(RunError::Netlink)?;
    let now = SystemTime::now();
    let daemon = Daemon {
        started_at: now,
        config: Config {
            node: String::new(),
            interfaces: Vec::new(),
            metrics: None,
            vrrp: Vec::new(),
            hooks: model::Hooks::default(),
            flows: Flows::default(),
            services: Vec::new(),
        },
        forwarding: Forwarding::new(plane, sweep, timeouts),
        checks: Checks::new(reports),
        instances: Instances::new(keeper, events),
        hooks: Hooks::new(),
        reloads: Reloads::new(options.config.display().to_string(), now),
        page: Page::new(commands.clone()),
        last_applied: Kept::last_applied(options.state_dir.clone()),
        admin: Admin::new(&options.state_dir),
        clock,
        commands,
        destinations,
        path_mtu: PathMtu::default(),
        looks_until: Instant::now(),
        options,
    };
    let inbox = Inbox {
        commands: command_inbox,
        reports: report_inbox,
        events: event_inbox,
        ways: way_inbox,
        censuses: census_inbox,
    };
    Ok((daemon, inbox))
}

impl Daemon {
    /// Until it is asked to stop.
    async fn serve(&mut self, inbox: &mut Inbox, mut signals: Signals) {
        let (saved, mut save_inbox) = mpsc::channel(1);
        let _watch = watch::start(&self.options.config, saved).inspect_err(|error| {
            tracing::warn!("a save of the configuration is not noticed: {error}; use `evenkeel apply`");
        });
        let (mut saved_until, mut reports) = (None, Vec::new());
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Not before SIGHUP is a reload: without a handler it would end the process.
        notify::notify(notify::READY);
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => return,
                    Asked::Reload => drop(self.reload(None).await),
                },
                Some(()) = save_inbox.recv() => saved_until = Some(tokio::time::Instant::now() + SAVE_SETTLES),
                () = until(saved_until) => {
                    saved_until = None;
                    drop(self.reload(None).await);
                }
                Some(command) = inbox.commands.recv() => self.handle_command(command).await,
                1.. = inbox.reports.recv_many(&mut reports, WAITING) => self.handle_reports(reports.drain(..)),
                Some(event) = inbox.events.recv() => self.handle_event(event),
                Some(found) = inbox.ways.recv() => {
                    if self.forwarding.handle_ways(found, Instant::now()) {
                        self.reconcile();
                    }
                }
                Some(census) = inbox.censuses.recv() => self.forwarding.handle_census(census),
                () = self.instances.stopped() => {}
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    fn sweep(&mut self) {
        self.forwarding.follow_interfaces(&self.config.interfaces);
        self.instances.start_waiting();
        self.look_at_masters();
        self.reconcile();
        self.destinations.send_if_modified(|known| {
            let wanted = self.forwarding.destinations(&self.config);
            let changed = *known != wanted;
            *known = wanted;
            changed
        });
    }

    async fn handle_command(&mut self, command: Command) {
        // Whoever asked may have gone meanwhile.
        match command {
            Command::Status(answer) => match self.status() {
                Ok(status) => drop(answer.send(Box::new(status))),
                Err(error) => tracing::error!("no status: {error}"),
            },
            Command::Apply(apply, answer) => drop(answer.send(self.reload(apply).await)),
            Command::Take(take, answer) => drop(answer.send(self.take(&take))),
            Command::GiveAway(give_away, answer) => self.give_away(give_away, answer),
        }
    }

    /// All that are there before the maps are touched once: of many backends that are found up at the same time none waits for the
    /// tables of those before it.
    fn handle_reports(&mut self, reports: impl Iterator<Item = Report>) {
        let now = Instant::now();
        let changed = reports.filter(|report| self.checks.handle_report(report, now)).count() > 0;
        if changed {
            self.look_for_ways();
            self.reconcile();
            // A backend that has just answered is in the kernel's neighbour table: no need to wait for the next round.
            self.destinations.send_modify(|_| {});
        }
    }

    fn desired(&self, config: &Config) -> Desired {
        let known = Known {
            hz: self.clock.hz(),
            health: &|service, backend| self.checks.state(service, backend),
            standing: &|service, backend| self.admin.standing(service, backend),
            reach: &|address| self.forwarding.ways.reach(address),
            looking: Instant::now() < self.looks_until,
        };
        desired(config, &known)
    }

    /// A neighbour that the kernel did not know has answered by then.
    fn look_for_ways(&mut self) {
        self.looks_until = Instant::now() + WAYS_FOUND;
    }

    /// Brings the maps to what configuration and health ask for.
    fn reconcile(&mut self) {
        self.tell_of_services();
        let now = Instant::now();
        let desired = self.desired(&self.config);
        if let Err(error) = self.forwarding.reconcile(&desired, now) {
            tracing::error!("the maps are not as they should be: {error}; trying again");
        }
    }
}

const fn timeouts(flows: &Flows) -> Timeouts {
    let model::Timeouts { established, fin_wait, close_wait, time_wait, close, syn_recv, udp } =
        flows.timeouts;
    Timeouts { established, fin_wait, close_wait, time_wait, close, syn_recv, udp }
}

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The run directory, for root only, with a lock that lasts as long as the file is open.
fn lock(directory: &Path) -> Result<File, RunError> {
    let failed = |source| RunError::RunDirectory { path: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let file = File::create(directory.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(RunError::AlreadyRunning(directory.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}
