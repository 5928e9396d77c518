//! Two nodes and a client on one segment, and what happens to the master.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::prober::Prober;
use super::stats::Outage;
use crate::testbed::servers::Keepalived;
use crate::testbed::{Host, Node, Segment, TestBed};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const LENGTH: u8 = 24;
const INTERFACE: &str = "eth0";
const VRID: u8 = 51;
/// Of the master and of its backup.
const PRIORITIES: [u8; 2] = [200, 100];
/// Probes before the event that count, so that its gap has a beginning.
const LEAD: Duration = Duration::from_millis(20);

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Product {
    Keepalived,
    Evenkeel,
}

impl Product {
    pub(super) const BOTH: [Self; 2] = [Self::Keepalived, Self::Evenkeel];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Keepalived => "keepalived",
            Self::Evenkeel => "evenkeel",
        }
    }
}

/// What happens to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    /// The switch passes nothing any more; the carrier stays, so that nobody is told.
    Cut,
    /// SIGTERM.
    Stopped,
    /// SIGKILL: every process of keepalived; the daemon of Evenkeel, whose guard is there for this.
    Killed,
}

impl Event {
    /// In the order in which they happen to a pair; the last leaves it without its first node.
    pub(super) const ALL: [Self; 3] = [Self::Cut, Self::Stopped, Self::Killed];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut off",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
        }
    }
}

/// What came of one event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) event: Event,
    pub(super) outage: Outage,
    /// Whether the old master still holds the address at the end.
    pub(super) address_left: bool,
    pub(super) realtime: bool,
}

/// ```text
///   client 192.0.2.100    first 192.0.2.11    second 192.0.2.12    virtual 192.0.2.10
///  ────┴──────────────────────┴───────────────────┴──── one segment
/// ```
pub(super) struct Lab {
    client: Host,
    hosts: [Host; 2],
    segment: Segment,
    _bed: TestBed,
}

impl Lab {
    pub(super) fn build() -> Result<Self> {
        let bed = TestBed::new("failover")?;
        let segment = bed.segment("segment")?;
        let client = bed.host("client")?;
        let hosts = [bed.host("first")?, bed.host("second")?];
        for (host, last) in [(&client, 100), (&hosts[0], 11), (&hosts[1], 12)] {
            segment.attach(host, INTERFACE, &[&format!("192.0.2.{last}/{LENGTH}")])?;
        }
        Ok(Self { client, hosts, segment, _bed: bed })
    }

    /// Starts a pair, has every event happen to it in turn, and ends it.
    pub(super) fn run(&self, product: Product, advertise: Duration) -> Result<Vec<Seen>> {
        let mut daemons = Vec::new();
        for (host, priority) in self.hosts.iter().zip(PRIORITIES) {
            daemons.push(Daemon::start(product, host, priority, advertise)?);
        }
        let mut seen = Vec::new();
        for event in Event::ALL {
            self.wait_until_master(0)?;
            let happened = self.measure(&mut daemons[0], event);
            seen.push(
                happened.with_context(|| format!("{}: the master is {}", product.name(), event.name()))?,
            );
            match event {
                Event::Cut => self.segment.set_passing(&self.hosts[0], INTERFACE, true)?,
                Event::Stopped => {
                    daemons[0] = Daemon::start(product, &self.hosts[0], PRIORITIES[0], advertise)?
                }
                Event::Killed => {}
            }
        }
        daemons[1].stop()?;
        for host in &self.hosts {
            if host.has_address(&ADDRESS.to_string())? {
                host.run(["ip", "address", "delete", &format!("{ADDRESS}/{LENGTH}"), "dev", INTERFACE])?;
            }
        }
        Ok(seen)
    }

    fn measure(&self, master: &mut Daemon, event: Event) -> Result<Seen> {
        let prober = Prober::start(&self.client, ADDRESS)?;
        prober.wait_until_steady()?;
        let since = prober.now().saturating_sub(LEAD);
        match event {
            Event::Cut => self.segment.set_passing(&self.hosts[0], INTERFACE, false)?,
            Event::Stopped => master.stop()?,
            Event::Killed => master.kill()?,
        }
        self.hosts[1].wait_until_it_has(&ADDRESS.to_string())?;
        prober.wait_until_steady()?;
        let address_left = self.hosts[0].has_address(&ADDRESS.to_string())?;
        let realtime = prober.is_realtime();
        let outage = Outage::of(&prober.finish()?, since);
        Ok(Seen { event, outage, address_left, realtime })
    }

    fn wait_until_master(&self, index: usize) -> Result<()> {
        self.hosts[index].wait_until_it_has(&ADDRESS.to_string())?;
        self.hosts[1 - index].wait_until_it_lacks(&ADDRESS.to_string())
    }
}

enum Daemon {
    Keepalived(Keepalived),
    Evenkeel(Node),
}

impl Daemon {
    fn start(product: Product, host: &Host, priority: u8, advertise: Duration) -> Result<Self> {
        let daemon = match product {
            Product::Keepalived => {
                Self::Keepalived(Keepalived::start(host, &keepalived_configuration(priority, advertise))?)
            }
            Product::Evenkeel => {
                Self::Evenkeel(Node::start(host, &evenkeel_configuration(priority, advertise))?)
            }
        };
        // A packet that comes to the node without the address must not get to the other by way of it.
        host.sysctl("net.ipv4.ip_forward", "0")?;
        Ok(daemon)
    }

    fn stop(&mut self) -> Result<()> {
        match self {
            Self::Keepalived(keepalived) => keepalived.process.stop().map(drop),
            Self::Evenkeel(node) => node.stop_daemon(),
        }
    }

    fn kill(&mut self) -> Result<()> {
        match self {
            Self::Keepalived(keepalived) => keepalived.kill_all(),
            Self::Evenkeel(node) => node.kill_daemon(),
        }
    }
}

fn keepalived_configuration(priority: u8, advertise: Duration) -> String {
    format!(
        "global_defs {{\n  vrrp_version 3\n}}\n\
         vrrp_instance outside {{\n  \
           interface {INTERFACE}\n  \
           state BACKUP\n  \
           virtual_router_id {VRID}\n  \
           priority {priority}\n  \
           advert_int {}\n  \
           virtual_ipaddress {{\n    {ADDRESS}/{LENGTH}\n  }}\n\
         }}\n",
        advertise.as_secs_f64()
    )
}

fn evenkeel_configuration(priority: u8, advertise: Duration) -> String {
    format!(
        "vrrp:\n  \
           - name: outside\n    \
             interface: {INTERFACE}\n    \
             vrid: {VRID}\n    \
             priority: {priority}\n    \
             advertise: {}ms\n    \
             addresses: [{ADDRESS}/{LENGTH}]\n",
        advertise.as_millis()
    )
}
