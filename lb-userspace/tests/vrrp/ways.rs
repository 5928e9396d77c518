//! Ways that change while they are followed, of either family.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel::net::next_hop::Found;
use evenkeel::net::ways;
use tokio::sync::{mpsc, watch};

use super::lab::{Host, LIMIT, runtime};
use super::next_hop::{Family, NEW, OLD, add_ipv6, families, lab, told};

/// Time between rounds while the kernel says nothing.
const POLL: Duration = Duration::from_secs(1);
/// The shortest between rounds.
const GAP: Duration = Duration::from_millis(20);

struct Follower {
    destinations: watch::Sender<BTreeSet<IpAddr>>,
    rounds: mpsc::Receiver<Found>,
    count: u32,
    /// All the time that was waited for changes to be followed.
    waited: Duration,
}

impl Follower {
    fn start(destination: IpAddr) -> Self {
        let (destinations, wanted) = watch::channel(BTreeSet::from([destination]));
        let (found, rounds) = mpsc::channel(1);
        ways::start(wanted, found).unwrap();
        Self { destinations, rounds, count: 0, waited: Duration::ZERO }
    }

    /// Waits for the way to say this: the MAC address, or the beginning of why there is none.
    async fn wait_for(&mut self, what: &str, destination: IpAddr, wanted: &str) {
        let began = Instant::now();
        let mut last = None;
        let followed = async {
            while let Some(found) = self.rounds.recv().await {
                self.count += 1;
                last = found.ways.get(&destination).map(told);
                if last.as_ref().is_some_and(|told| told.starts_with(wanted)) {
                    return;
                }
            }
            panic!("the task has ended");
        };
        let followed = tokio::time::timeout(LIMIT, followed).await;
        assert!(followed.is_ok(), "{what}: not {wanted} but {last:?}");
        self.waited += began.elapsed();
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn neighbours_routes_and_links_that_change_are_followed_at_once() {
    for Family { hosts: [_, one, other], network, behind, .. } in families() {
        let lab = lab(3);
        let host = &lab.hosts[0];
        lab.hosts[1].ip(&["link", "set", "eth0", "address", OLD]);
        lab.hosts[2].ip(&["link", "set", "eth0", "address", NEW]);
        let (one, other) = (one.to_string(), other.to_string());
        let route = |words: &[&str]| host.ip(&[&["route", "replace"], words].concat());
        route(&[network, "via", &one]);
        let follow = async {
            let mut follower = Follower::start(behind);
            follower.wait_for("at first", behind, OLD).await;
            follower.waited = Duration::ZERO;

            host.ip(&["neigh", "replace", &one, "lladdr", "02:00:00:00:00:09", "dev", "eth0"]);
            follower.wait_for("neighbour replaced", behind, "02:00:00:00:00:09").await;
            route(&[network, "via", &other]);
            follower.wait_for("other gateway", behind, NEW).await;
            host.ip(&["link", "set", "eth0", "down"]);
            follower.wait_for("link down", behind, "no route").await;
            host.ip(&["link", "set", "eth0", "up"]);
            route(&[network, "via", &one]);
            follower.wait_for("link up", behind, OLD).await;
            host.ip(&["route", "del", network]);
            route(&["prohibit", network]);
            follower.wait_for("prohibited", behind, "no route: the routing table says prohibit").await;
            host.ip(&["route", "del", "prohibit", network]);
            follower.wait_for("no route", behind, "no route: the routing table has none").await;
            route(&[network, "via", &other]);
            follower.wait_for("route again", behind, NEW).await;
            host.ip(&["link", "del", "eth0"]);
            follower.wait_for("link gone", behind, "no route").await;
            lab.plug_in(0);
            add_ipv6(&lab, 0);
            route(&[network, "via", &one]);
            follower.wait_for("link back", behind, OLD).await;
            follower.waited
        };
        let waited = host.run(|| runtime().block_on(follow));
        assert!(waited < 9 * POLL / 2, "polls alone are as quick: {waited:?} for nine changes");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flood_of_changes_neither_keeps_the_task_busy_nor_from_what_is_asked() {
    const CHANGES: u16 = 20_000;
    let [Family { hosts: [_, one, other], .. }, _] = families();
    let lab = lab(3);
    let host = &lab.hosts[0];
    lab.hosts[2].ip(&["link", "set", "eth0", "address", NEW]);
    let mac = |change: u16| {
        let [high, low] = change.to_be_bytes();
        format!("02:00:00:09:{high:02x}:{low:02x}")
    };
    let replace = |change| format!("neigh replace {one} lladdr {} dev eth0\n", mac(change));
    let follow = async {
        let began = Instant::now();
        let mut follower = Follower::start(one);
        follower.wait_for("the flood", one, "02:00:00:09:").await;
        follower.destinations.send_replace(BTreeSet::from([one, other]));
        follower.wait_for("another destination", other, NEW).await;
        follower.wait_for("the last change", one, &mac(CHANGES - 1)).await;
        (began.elapsed(), follower.count)
    };
    let (took, rounds) = std::thread::scope(|scope| {
        let batch: String = (0..CHANGES).map(replace).collect();
        scope.spawn(move || run_batch(host, &batch));
        host.run(|| runtime().block_on(follow))
    });
    // The first, and the one for the other destination, are at once.
    assert!(u128::from(rounds) <= took.as_millis() / GAP.as_millis() + 2, "{rounds} rounds in {took:?}");
}

fn run_batch(host: &Host, batch: &str) {
    host.run(|| {
        let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        ip.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        assert!(ip.wait().unwrap().success());
    });
}
