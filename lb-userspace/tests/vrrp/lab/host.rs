//! What runs in a host's network.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use evenkeel::config::model::{Instance, Prefix, Priority, Vrid};
use evenkeel::track::TrackState;
use evenkeel::vrrp::{self, Keeper, guard};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{mpsc, watch};

use super::running::{Process, Running};
use super::{INTERVAL, LENGTH, Lab, Namespace, ROLE, VIRTUAL, eventually, ip};

pub(crate) struct Host {
    pub(super) namespace: Namespace,
    pub(crate) address: Ipv4Addr,
}

impl Host {
    pub(crate) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.namespace.0], arguments].concat());
    }

    /// The kernel removes them with a link that goes down.
    pub(crate) fn add_ipv6(&self, number: usize) {
        for network in ["fe80", "2001:db8"] {
            let address = format!("{network}::{number}/64");
            self.ip(&["address", "replace", &address, "dev", "eth0", "nodad"]);
        }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.0]).args(words).stdin(Stdio::null());
        command
    }

    /// What a command in the host's network writes, whether or not it succeeds.
    pub(crate) fn output(&self, command: &[&str]) -> String {
        let namespace = ["netns", "exec", &self.namespace.0];
        let output = Command::new("ip").args(namespace).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        self.has(address.into())
    }

    /// On any of its interfaces.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let output = Command::new("ip").args(["-n", &self.namespace.0, "-o", "address"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.contains(&format!("inet {address}/")) || text.contains(&format!("inet6 {address}/"))
    }

    /// Does something in the host's network, on a thread of its own; threads and processes started there stay there.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace.0);
        let inside = || {
            let file = std::fs::File::open(path).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            what()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    pub(crate) fn start(&self, instance: Instance) -> Running {
        self.start_with(instance, &self.run(start_keeper))
    }

    /// As one more instance of the daemon whose keeper this is.
    pub(crate) fn start_with(&self, instance: Instance, keeper: &Keeper) -> Running {
        self.start_group(vec![instance], keeper)
    }

    pub(crate) fn start_group(&self, group: Vec<Instance>, keeper: &Keeper) -> Running {
        let (events, received) = mpsc::channel(64);
        let handle = self.run(|| vrrp::spawn(group, keeper, untracked(), events).unwrap());
        Running::new(handle, received)
    }

    /// Writes every change of an address to the file, once this returns.
    pub(crate) fn monitor_addresses(&self, file: &Path) -> Process {
        self.monitor(&["-o", "-4", "monitor", "address"], file)
    }

    /// As [`Self::monitor_addresses`], each line with its time in brackets before it.
    pub(crate) fn monitor_with_times(&self, file: &Path) -> Process {
        self.monitor(&["-ts", "-o", "-4", "monitor", "address"], file)
    }

    fn monitor(&self, arguments: &[&str], file: &Path) -> Process {
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace.0]).args(arguments);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(file).unwrap());
        let process = Process(command.spawn().unwrap());
        eventually("changes of addresses are seen", || {
            self.ip(&["address", "replace", "192.0.2.1/32", "dev", "lo"]);
            std::fs::read_to_string(file).unwrap().contains("192.0.2.1")
        });
        process
    }

    /// This binary again, in a role, in the host's network.
    pub(crate) fn start_role(&self, role: &str) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.0]);
        command.args(role_arguments(role)).stdin(Stdio::piped()).stdout(Stdio::null());
        Process(command.spawn().unwrap())
    }

    /// Processes in the host's network, without one.
    pub(crate) fn pids_but(&self, spared: &Process) -> Vec<Pid> {
        let output = Command::new("ip").args(["netns", "pids", &self.namespace.0]).output().unwrap();
        let pids = String::from_utf8(output.stdout).unwrap();
        let others = pids.lines().map(|pid| Pid::from_raw(pid.parse().unwrap()));
        others.filter(|&pid| pid != spared.pid()).collect()
    }

    pub(crate) fn signal_all_but(&self, spared: &Process, signal: Signal) {
        let others = self.pids_but(spared);
        assert!(!others.is_empty(), "a guard runs");
        others.into_iter().for_each(|pid| kill(pid, signal).unwrap());
    }

    pub(crate) fn start_keepalived(&self, lab: &Lab, priority: u8) -> Process {
        let configuration = format!(
            "global_defs {{\n vrrp_version 3\n}}\n\
             vrrp_instance outside {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
             priority {priority}\n advert_int 0.1\n virtual_ipaddress {{\n {VIRTUAL}/{LENGTH}\n }}\n}}\n"
        );
        self.start_keepalived_with(lab, &configuration)
    }

    /// Its log is `log` in the lab's folder, its processes are `pid` and `vrrp.pid`.
    pub(crate) fn start_keepalived_with(&self, lab: &Lab, configuration: &str) -> Process {
        let path = |name: &str| lab.folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("keepalived.conf"), configuration).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.0, "keepalived", "--dont-fork", "--log-console"]);
        command.args(["--use-file", &path("keepalived.conf"), "--pid", &path("pid")]);
        command.args(["--vrrp_pid", &path("vrrp.pid"), "--checkers_pid", &path("checkers.pid")]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Process(command.spawn().expect("keepalived is installed"))
    }
}

pub(crate) fn instance(priority: u8) -> Instance {
    Instance {
        priority: Priority::new(priority).unwrap(),
        advertise: INTERVAL,
        addresses: vec![Prefix { address: IpAddr::V4(VIRTUAL), length: LENGTH }.into()],
        ..Instance::new("outside", "eth0", Vrid::new(51).unwrap())
    }
}

pub(crate) fn untracked() -> watch::Receiver<TrackState> {
    watch::channel(TrackState::default()).1
}

pub(crate) fn start_keeper() -> Keeper {
    let mut arguments = role_arguments("guard").into_iter().map(Into::into);
    let program = arguments.next().unwrap();
    let guard = guard::start_program(std::path::PathBuf::from(program), arguments.collect()).unwrap();
    Keeper::start(guard).unwrap()
}

/// `env ROLE=… this-binary`, run so that only the entrance for roles runs.
fn role_arguments(role: &str) -> Vec<String> {
    let binary = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let role = format!("{ROLE}={role}");
    ["/usr/bin/env", &role, &binary, "--ignored", "--exact", "role", "--nocapture"]
        .map(str::to_owned)
        .to_vec()
}
