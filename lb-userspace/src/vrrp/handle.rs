//! Starts and stops a group of instances, and what the daemon holds of it.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::driver::{Driver, Inbox};
use super::keeper::{Keeper, Refusals, Wanted};
use super::log::flushed;
use super::machine::{Peer, Reason, leave_limit};
use super::report::{Reader, Reports};
use super::wire::Family;
use super::{realtime, socket};
use crate::config::model::Instance;
use crate::status::{self, InstanceState};
use crate::track::TrackState;

/// For the addresses to be gone, after the machine's wait for its successor.
const RELEASE_LIMIT: Duration = Duration::from_secs(3);
/// Between looks at how a handover goes.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// For the driver to take a command.
const COMMAND_LIMIT: Duration = Duration::from_secs(2);

/// What happened in an instance, as it happens and best effort; the snapshot is the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Transition {
        instance: String,
        from: InstanceState,
        to: InstanceState,
        /// With what is tracked counted in.
        priority: u8,
        reason: Reason,
    },
    /// Another node claims to be master while this one is; once for each time that begins.
    SecondMaster { instance: String, peer: Peer },
}

/// What an operator asks of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Yield,
    Unyield,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("instance {instance}: cannot open a VRRP socket: {source}; run as root or grant CAP_NET_RAW")]
    Socket { instance: String, source: io::Error },
    #[error("instance {instance}: cannot start a thread: {source}")]
    Thread { instance: String, source: io::Error },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FailoverError {
    #[error("{instance} is {}, not master: there is nothing to give away; run this on the master", .state.as_str())]
    NotMaster { instance: String, state: InstanceState },
    #[error("no other node took {instance} over, so this one is master again")]
    NobodyElse { instance: String },
    #[error("{instance} cannot serve any more: {reason}")]
    Failed { instance: String, reason: String },
    #[error("{instance} does not answer")]
    NoAnswer { instance: String },
}

/// A running group. Dropping it stops the group, without waiting for the addresses to be gone.
#[derive(Debug)]
pub struct Handle {
    name: String,
    /// The last one counts.
    group: watch::Sender<Vec<Instance>>,
    commands: mpsc::Sender<Command>,
    reader: Reader,
    refusals: Refusals,
    released: oneshot::Receiver<()>,
}

/// Starts the instances of a group on a thread of their own, in the caller's network namespace. An interface that is missing
/// or down is no error: the instances say so and wait for it. `group` has at least one.
///
/// # Errors
/// Without the right to open a raw socket, or when a thread cannot be started.
pub fn spawn(
    group: Vec<Instance>,
    keeper: &Keeper,
    tracking: watch::Receiver<TrackState>,
    events: mpsc::Sender<Event>,
) -> Result<Handle, StartError> {
    let name = group.first().map(|first| first.name.clone()).unwrap_or_default();
    socket::open_raw(Family::V4).map_err(|source| StartError::Socket { instance: name.clone(), source })?;
    let (group_sender, group_receiver) = watch::channel(group.clone());
    let (commands, command_inbox) = mpsc::channel(1);
    let (release, released) = oneshot::channel();
    let (reports, reader) = Reports::new(&group);
    let registration = keeper.register(name.clone(), Wanted::of(&group));
    let inbox = Inbox { group: group_receiver, tracking, commands: command_inbox };
    let driver = Driver::new(group, reports, inbox, registration, events);
    run_on_thread(format!("vrrp {name}"), async move {
        driver.run().await.wait().await;
        let _ = release.send(());
    })
    .map_err(|source| StartError::Thread { instance: name.clone(), source })?;
    Ok(Handle { name, group: group_sender, commands, reader, refusals: keeper.refusals(), released })
}

fn run_on_thread(thread: String, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(thread).spawn(move || {
        realtime::enter();
        runtime.block_on(task);
    })?;
    Ok(())
}

impl Handle {
    /// As of the last event; never keeps the instances waiting. In the order of the configuration.
    #[must_use]
    pub fn snapshot(&self) -> Vec<status::Instance> {
        let mut instances = self.reader.snapshot();
        self.refusals.describe(&mut instances);
        instances
    }

    /// Changes everything but the group's identity in place, without delaying or repeating an advertisement.
    pub fn reconfigure(&self, group: Vec<Instance>) {
        if self.group.send(group).is_err() {
            tracing::error!(instance = self.name, "the instance's thread has ended: its configuration stays");
        }
    }

    /// For [`Failover::run`], which may take as long as an election. Errors name the instance so.
    #[must_use]
    pub fn failover(&self, instance: &str) -> Failover {
        Failover {
            name: instance.to_owned(),
            limit: self.leave_limit() + COMMAND_LIMIT,
            commands: self.commands.clone(),
            reader: self.reader.clone(),
        }
    }

    /// Lets the instances preempt again after a failover.
    ///
    /// # Errors
    /// The thread does not answer.
    pub fn take_back(&self, instance: &str) -> Result<(), FailoverError> {
        let no_answer = |_| FailoverError::NoAnswer { instance: instance.to_owned() };
        self.commands.try_send(Command::Unyield).map_err(no_answer)
    }

    /// Tells the other nodes that this one stops, serves on until one of them is master, at most
    /// [`leave_limit`] of its instances, releases the addresses, and waits for all that.
    pub async fn stop(self) {
        let limit = self.leave_limit() + RELEASE_LIMIT;
        let Self { name, group, commands, released, .. } = self;
        drop((group, commands));
        let ended = async {
            let _ = released.await;
            flushed().await;
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::error!(instance = name, "its addresses were not released in {limit:?}");
        }
    }

    fn leave_limit(&self) -> Duration {
        let group = self.group.borrow();
        let limits = group.iter().map(|instance| leave_limit(instance.version, instance.advertise));
        limits.max().unwrap_or_default()
    }
}

/// A handover that an operator asked for.
#[derive(Debug)]
pub struct Failover {
    name: String,
    limit: Duration,
    commands: mpsc::Sender<Command>,
    reader: Reader,
}

impl Failover {
    /// Gives the mastership away and waits until another node has it. Returns why this one is backup.
    ///
    /// # Errors
    /// It is not master, or nobody else wants to be.
    pub async fn run(self) -> Result<String, FailoverError> {
        let instance = self.name.clone();
        let before = self.look();
        if before.state != InstanceState::Master {
            return Err(FailoverError::NotMaster { instance, state: before.state });
        }
        let no_answer = FailoverError::NoAnswer { instance: instance.clone() };
        self.commands.send(Command::Yield).await.map_err(|_| no_answer)?;
        let deadline = tokio::time::Instant::now() + self.limit;
        let mut handing_over = false;
        loop {
            let now = self.look();
            match now.state {
                InstanceState::Backup => return Ok(now.reason),
                InstanceState::Init | InstanceState::Fault => {
                    return Err(FailoverError::Failed { instance, reason: now.reason });
                }
                InstanceState::Master => {}
            }
            // While it hands over, it is master and stands back; then it is one or the other.
            if handing_over && !now.stands_back {
                return Err(FailoverError::NobodyElse { instance });
            }
            handing_over |= now.stands_back;
            if tokio::time::Instant::now() >= deadline {
                return Err(FailoverError::NobodyElse { instance });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// All members have the same state.
    fn look(&self) -> status::Instance {
        let first = self.reader.snapshot().into_iter().next();
        first.expect("a group has at least one instance")
    }
}
