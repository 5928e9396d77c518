//! What a test started, until it ends it.

use std::process::Child;

use evenkeel::status::{self, InstanceState};
use evenkeel::vrrp::{Event, Handle};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;

use super::{LIMIT, runtime};

pub(crate) struct Running {
    pub(crate) handle: Handle,
    events: mpsc::Receiver<Event>,
}

impl Running {
    pub(super) fn new(handle: Handle, events: mpsc::Receiver<Event>) -> Self {
        Self { handle, events }
    }

    pub(crate) fn status(&self) -> status::Instance {
        self.handle.snapshot().swap_remove(0)
    }

    /// Waits for the instance to enter a state; returns the reason.
    pub(crate) fn wait_for(&mut self, state: InstanceState) -> String {
        let entered = async {
            loop {
                match self.events.recv().await.expect("the instance runs") {
                    Event::Transition { to, reason, .. } if to == state => return reason.to_string(),
                    Event::Transition { .. } | Event::SecondMaster { .. } => {}
                }
            }
        };
        runtime()
            .block_on(async { tokio::time::timeout(LIMIT, entered).await })
            .unwrap_or_else(|_| panic!("never {state:?}: {:?}", self.handle.snapshot()))
    }

    pub(crate) fn stop(self) {
        runtime().block_on(self.handle.stop());
    }

    pub(crate) fn assert_nothing_ignored(&self) {
        let status = self.status();
        assert!(status.discarded.values().all(|&count| count == 0), "{:?}", status.discarded);
    }
}

/// A process that ends with the test.
pub(crate) struct Process(pub(super) Child);

impl Process {
    /// Asks for an orderly end and waits for it.
    pub(crate) fn terminate(mut self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = kill(self.pid(), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}
