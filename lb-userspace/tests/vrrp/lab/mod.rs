//! Hosts as network namespaces on one bridge, each able to run an instance, keepalived, or a process to be killed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use evenkeel::config::model::{Instance, Prefix, Priority, Vrid};
use evenkeel::status::{self, InstanceState};
use evenkeel::track::TrackState;
use evenkeel::vrrp::{self, Event, Handle, Keeper, guard};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{mpsc, watch};

pub(crate) const VIRTUAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(crate) const LENGTH: u8 = 24;
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Tells the test binary, started again, what to be.
pub(crate) const ROLE: &str = "EVENKEEL_TEST_ROLE";
/// Far beyond what anything here takes, for a machine under load.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A shared segment with hosts 203.0.113.1, .2, … on it, each with an `eth0`.
pub(crate) struct Lab {
    switch: Namespace,
    pub(crate) hosts: Vec<Host>,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) struct Host {
    namespace: Namespace,
    pub(crate) address: Ipv4Addr,
}

struct Namespace(String);

impl Namespace {
    fn new(what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("evenkeel-{}-{number}-{what}", std::process::id()));
        ip(&["netns", "add", &namespace.0]);
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

impl Lab {
    pub(crate) fn new(hosts: u8) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "needs root: run it by `cargo xtask test`");
        let switch = Namespace::new("switch");
        ip(&["-n", &switch.0, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", &switch.0, "link", "set", "switch", "up"]);
        let folder = tempfile::tempdir().unwrap();
        let mut lab = Self { switch, hosts: Vec::new(), folder };
        for number in 1..=hosts {
            let namespace = Namespace::new(&format!("host{number}"));
            lab.hosts.push(Host { namespace, address: Ipv4Addr::new(203, 0, 113, number) });
            lab.plug_in(usize::from(number) - 1);
        }
        lab
    }

    /// Gives a host its `eth0`, connected to the switch.
    pub(crate) fn plug_in(&self, host: usize) {
        let (host, port) = (&self.hosts[host], format!("port{host}"));
        let (namespace, switch) = (&host.namespace.0, &self.switch.0);
        ip(&["-n", switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", namespace]);
        ip(&["-n", switch, "link", "set", &port, "master", "switch", "up"]);
        host.ip(&["address", "add", &format!("{}/{LENGTH}", host.address), "dev", "eth0"]);
        host.ip(&["link", "set", "eth0", "up"]);
    }

    /// Gives every host the addresses fe80::NUMBER and 2001:db8::NUMBER, at once, and no other of IPv6.
    pub(crate) fn add_ipv6(&self) {
        for (host, number) in self.hosts.iter().zip(1..) {
            host.ip(&["link", "set", "eth0", "addrgenmode", "none"]);
            host.ip(&["-6", "address", "flush", "dev", "eth0"]);
            host.add_ipv6(number);
        }
    }

    /// A second shared segment, with hosts 198.51.100.1, .2, … on it, each with an `eth1`.
    pub(crate) fn add_second_segment(&self) {
        let switch = &self.switch.0;
        ip(&["-n", switch, "link", "add", "second", "type", "bridge"]);
        ip(&["-n", switch, "link", "set", "second", "up"]);
        for (index, host) in self.hosts.iter().enumerate() {
            let (port, namespace) = (format!("second{index}"), &host.namespace.0);
            ip(&[
                "-n", switch, "link", "add", &port, "type", "veth", "peer", "name", "eth1", "netns",
                namespace,
            ]);
            ip(&["-n", switch, "link", "set", &port, "master", "second", "up"]);
            host.ip(&["address", "add", &format!("198.51.100.{}/{LENGTH}", index + 1), "dev", "eth1"]);
            host.ip(&["link", "set", "eth1", "up"]);
        }
    }

    /// Stops all frames to and from a host, whose link stays up.
    pub(crate) fn cut_off(&self, host: usize) {
        self.set_port(host, &["nomaster"]);
    }

    pub(crate) fn connect_again(&self, host: usize) {
        self.set_port(host, &["master", "switch"]);
    }

    /// Lets no multicast out to a host, which can still send.
    pub(crate) fn deafen(&self, host: usize) {
        self.set_port(host, &["type", "bridge_slave", "mcast_flood", "off"]);
    }

    pub(crate) fn undeafen(&self, host: usize) {
        self.set_port(host, &["type", "bridge_slave", "mcast_flood", "on"]);
    }

    fn set_port(&self, host: usize, arguments: &[&str]) {
        let port = format!("port{host}");
        ip(&[&["-n", &self.switch.0, "link", "set", &port], arguments].concat());
    }

    /// Writes what a host sends and the filter lets through to a file, once this returns.
    pub(crate) fn capture(&self, host: usize, filter: &str, file: &Path) -> Process {
        self.capture_on(&format!("port{host}"), filter, file)
    }

    /// As [`Self::capture`], of a host on the second segment.
    pub(crate) fn capture_second(&self, host: usize, filter: &str, file: &Path) -> Process {
        self.capture_on(&format!("second{host}"), filter, file)
    }

    fn capture_on(&self, port: &str, filter: &str, file: &Path) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.switch.0, "tcpdump", "-i", port, "-Q", "in"]);
        command.args(["-n", "-U", "-w"]).arg(file).arg(filter);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process(command.spawn().expect("tcpdump is installed"));
        eventually("tcpdump has written its header", || {
            std::fs::metadata(file).is_ok_and(|file| file.len() > 0)
        });
        process
    }

    pub(crate) fn holders(&self) -> Vec<usize> {
        self.holders_of(VIRTUAL.into())
    }

    pub(crate) fn holders_of(&self, address: IpAddr) -> Vec<usize> {
        (0..self.hosts.len()).filter(|&host| self.hosts[host].has(address)).collect()
    }

    pub(crate) fn wait_for_holder(&self, host: usize) {
        eventually(&format!("host {host} alone holds {VIRTUAL}"), || self.holders() == [host]);
    }
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
        Running { handle, events: received }
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

pub(crate) struct Running {
    pub(crate) handle: Handle,
    events: mpsc::Receiver<Event>,
}

impl Running {
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
pub(crate) struct Process(Child);

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

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
