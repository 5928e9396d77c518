//! Hosts as network namespaces on one bridge, each able to run an instance, keepalived, or a process to be killed.

mod host;
mod running;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) use host::{Host, instance, start_keeper, untracked};
pub(crate) use running::{Process, Running};

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
