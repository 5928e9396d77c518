//! The node that Evenkeel is paired with.

use evenkeel::status::InstanceState::{Backup, Master};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::row::Row;
use super::{Lab, OTHER, Running, eventually};
use crate::lab::Process;

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Keepalived,
    Evenkeel,
}

pub(super) enum Other {
    Keepalived { process: Option<Process>, log: std::path::PathBuf, priority: u8 },
    Evenkeel(Running),
}

impl Other {
    pub(super) fn start(kind: Kind, row: Row, lab: &Lab, priority: u8) -> Self {
        let host = &lab.hosts[OTHER];
        match kind {
            Kind::Evenkeel => Self::Evenkeel(host.start(row.instance(OTHER, priority))),
            Kind::Keepalived => {
                let process = host.start_keepalived_with(lab, &row.keepalived(priority));
                Self::Keepalived { process: Some(process), log: lab.folder.path().join("log"), priority }
            }
        }
    }

    pub(super) fn wait_until_backup(&mut self) {
        match self {
            Self::Evenkeel(node) => drop(node.wait_for(Backup)),
            Self::Keepalived { .. } => {
                eventually("keepalived is backup", || self.said("Entering BACKUP STATE") > 0);
            }
        }
    }

    pub(super) fn times_master(&self) -> u64 {
        match self {
            Self::Evenkeel(node) => node.status().transitions[&Master],
            Self::Keepalived { .. } => self.said("Entering MASTER STATE"),
        }
    }

    fn said(&self, what: &str) -> u64 {
        let Self::Keepalived { log, .. } = self else { return 0 };
        std::fs::read_to_string(log).unwrap().matches(what).count() as u64
    }

    /// Without a last word: keepalived is killed, Evenkeel's link is taken away.
    pub(super) fn fail(mut self, lab: &Lab) -> Self {
        match &mut self {
            Self::Evenkeel(_) => lab.hosts[OTHER].ip(&["link", "set", "eth0", "down"]),
            Self::Keepalived { process, log, .. } => {
                let process = process.take().unwrap();
                // A process whose parent goes would stop in order.
                kill(process.pid(), Signal::SIGSTOP).unwrap();
                let pid_file = log.with_file_name("vrrp.pid");
                let child = std::fs::read_to_string(&pid_file).unwrap();
                kill(Pid::from_raw(child.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
                process.kill();
                // As long as nobody has reaped them, the next one takes them for running.
                std::fs::remove_file(pid_file).unwrap();
                std::fs::remove_file(log.with_file_name("pid")).unwrap();
            }
        }
        self
    }

    pub(super) fn recover(self, row: Row, lab: &Lab) -> Self {
        match self {
            Self::Keepalived { priority, .. } => Self::start(Kind::Keepalived, row, lab, priority),
            Self::Evenkeel(node) => {
                lab.hosts[OTHER].ip(&["link", "set", "eth0", "up"]);
                lab.hosts[OTHER].add_ipv6(OTHER + 1);
                Self::Evenkeel(node)
            }
        }
    }

    pub(super) fn stop(self) {
        match self {
            Self::Evenkeel(node) => {
                node.assert_nothing_ignored();
                node.stop();
            }
            Self::Keepalived { process, .. } => process.unwrap().terminate(),
        }
    }
}
