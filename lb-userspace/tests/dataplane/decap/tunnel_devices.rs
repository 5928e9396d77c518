//! What the kernel's own tunnel devices send arrives, at a host that has none.

use std::fs::File;
use std::net::UdpSocket;
use std::process::{Command, id};
use std::thread;
use std::time::Duration;

use evenkeel::config::model::{Interface, XdpMode};
use evenkeel::dataplane::Decap;
use lb_common::decap::Outcome;
use nix::sched::{CloneFlags, setns};

use super::packet::GUE_PORT;

/// Set where the kernel is one that has all of the devices.
const REQUIRED: &str = "EVENKEEL_TUNNEL_DEVICES";

const CLIENT: [&str; 2] = ["192.0.2.1", "2001:db8:3::1"];
const SERVICE: [&str; 2] = ["203.0.113.10", "2001:db8:2::10"];

/// A network namespace that goes with this.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("ek-decap-{}-{name}", id());
        run(&format!("ip netns add {name}")).unwrap();
        Self(name)
    }

    fn ip(&self, arguments: &str) -> Result<(), String> {
        run(&format!("ip -n {} {arguments}", self.0))
    }

    /// Does something inside, on a thread of its own.
    fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.0);
        let inside = || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            what()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(&format!("ip netns delete {}", self.0)).unwrap();
    }
}

fn run(command: &str) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command}: {said}")) }
}

/// A sender and a backend, connected by `eth0`; the client's addresses are the sender's, the service's the backend's.
fn lab() -> (Namespace, Namespace) {
    let (sender, backend) = (Namespace::new("sender"), Namespace::new("backend"));
    sender.ip(&format!("link add eth0 type veth peer name eth0 netns {}", backend.0)).unwrap();
    for (host, own, other, held) in [(&sender, 1, 11, CLIENT), (&backend, 11, 1, SERVICE)] {
        for command in [
            "link set lo up".to_owned(),
            "link set eth0 up".to_owned(),
            format!("address add 10.0.0.{own}/24 dev eth0"),
            format!("address add 2001:db8:1::{own}/64 dev eth0 nodad"),
            format!("address add {}/32 dev lo", held[0]),
            format!("address add {}/128 dev lo", held[1]),
        ] {
            host.ip(&command).unwrap();
        }
        // A way back, so that no filter of source addresses objects.
        if own == 11 {
            host.ip(&format!("route add {} via 10.0.0.{other}", CLIENT[0])).unwrap();
            host.ip(&format!("route add {} via 2001:db8:1::{other}", CLIENT[1])).unwrap();
        }
    }
    (sender, backend)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_the_kernel_puts_into_a_tunnel_arrives() {
    const OVER4: &str = "local 10.0.0.1 remote 10.0.0.11";
    const OVER6: &str = "local 2001:db8:1::1 remote 2001:db8:1::11";
    let gue = format!("encap gue encap-sport auto encap-dport {GUE_PORT}");
    let fou = format!("encap fou encap-sport auto encap-dport {GUE_PORT}");
    let (sender, backend) = lab();
    for (device, family, outcome) in [
        (format!("ipip {OVER4}"), 0, Outcome::Ip),
        (format!("sit {OVER4}"), 1, Outcome::Ip),
        (format!("ip6tnl {OVER6} mode ipip6"), 0, Outcome::Ip),
        (format!("ip6tnl {OVER6} mode ip6ip6"), 1, Outcome::Ip),
        (format!("ip6tnl {OVER6} mode ipip6 encaplimit none"), 0, Outcome::Ip),
        (format!("ip6tnl {OVER6} mode ip6ip6 encaplimit none"), 1, Outcome::Ip),
        (format!("ipip {OVER4} {gue}"), 0, Outcome::Gue),
        (format!("ipip {OVER4} {gue} encap-csum"), 0, Outcome::Gue),
        (format!("ipip {OVER4} {fou}"), 0, Outcome::Gue),
        (format!("sit {OVER4} {gue}"), 1, Outcome::Gue),
        (format!("ip6tnl {OVER6} mode ip6ip6 encaplimit none {gue}"), 1, Outcome::Gue),
        (format!("ip6tnl {OVER6} mode ipip6 encaplimit none {fou}"), 0, Outcome::Gue),
    ] {
        if let Err(error) = sender.ip(&format!("link add tunnel type {device}")) {
            assert!(std::env::var_os(REQUIRED).is_none(), "{error}");
            eprintln!("not checked, this kernel has no such device: {error}");
            continue;
        }
        sender.ip("link set tunnel up").unwrap();
        sender.ip(&format!("route add {} dev tunnel src {}", SERVICE[family], CLIENT[family])).unwrap();
        assert_arrives(&sender, &backend, family, outcome, &device);
        sender.ip("link delete tunnel").unwrap();
    }
}

fn assert_arrives(sender: &Namespace, backend: &Namespace, family: usize, outcome: Outcome, device: &str) {
    let (decap, server) = backend.inside(|| {
        let mut decap = Decap::load(GUE_PORT).unwrap();
        for address in ["10.0.0.11", "2001:db8:1::11"] {
            decap.add(address.parse().unwrap()).unwrap();
        }
        decap.attach(&Interface { name: "eth0".to_owned(), mode: XdpMode::Native }).unwrap();
        (decap, UdpSocket::bind((SERVICE[family], 7)).unwrap())
    });
    let client = sender.inside(|| UdpSocket::bind((CLIENT[family], 0)).unwrap());
    server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut got = [0; 64];
    // The first ones may be lost while the hosts find each other.
    let arrived = (0..50).find_map(|_| {
        client.send_to(b"through the tunnel", (SERVICE[family], 7)).unwrap();
        server.recv_from(&mut got).ok()
    });
    let outcomes = decap.outcomes().unwrap();
    let (length, from) = arrived.unwrap_or_else(|| panic!("{device}: nothing arrived: {outcomes:?}"));
    assert_eq!(
        (&got[..length], from),
        (&b"through the tunnel"[..], client.local_addr().unwrap()),
        "{device}"
    );
    for (each, count) in outcomes {
        assert_eq!(count > 0, each == outcome, "{device}: {each:?} {count}");
    }
}
