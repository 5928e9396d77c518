//! What the daemon tells about itself: one snapshot that `evenkeel status`, `--json` and the metrics page all read.
//!
//! Times are seconds since the Unix epoch, durations are seconds. Counters of packets, services and backends outlive the
//! daemon; those of reloads, VRRP and expired flows start anew with it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    pub started_at: f64,
    pub configuration: Configuration,
    pub interfaces: Vec<Interface>,
    pub instances: Vec<Instance>,
    /// Who is told of their transitions.
    pub hooks: Vec<Hook>,
    pub services: Vec<Service>,
    pub flows: Flows,
    /// Packets by verdict reason, every reason listed, as named in docs/reasons.md.
    pub packets: Vec<ReasonCount>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    pub path: String,
    /// When the configuration in force was applied.
    pub applied_at: f64,
    pub reloads_succeeded: u64,
    pub reloads_failed: u64,
    /// When a reload was last tried, whether it worked or not.
    pub last_reload_at: f64,
    /// The file of the last reload, whether it worked or not.
    #[serde(default)]
    pub last_reload_path: String,
    /// Why the last reload changed nothing, one line each; empty when it was applied.
    pub last_reload_errors: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    /// `native`, `generic`, or `none` while the program is not attached.
    pub mode: String,
    /// Why it is not native, or not attached.
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub name: String,
    /// Instances of one group have one state.
    pub group: Option<String>,
    pub interface: String,
    pub vrid: u8,
    /// Of the protocol, over IPv4.
    pub version: u8,
    pub virtual_mac: bool,
    pub configured_priority: u8,
    /// With what is tracked counted in.
    pub priority: u8,
    pub state: InstanceState,
    pub since: f64,
    /// Why it is in this state, for a person.
    pub reason: String,
    /// What it cannot do as configured, for a person.
    pub note: Option<String>,
    /// By `evenkeel failover`: no preemption as long as another node is master.
    pub stands_back: bool,
    /// The other node that was heard last.
    pub peer: Option<Peer>,
    /// The other master that goes on although this one's advertisements should have made it give way: it probably does not
    /// hear them.
    pub unheard_by: Option<IpAddr>,
    /// Nodes that were heard, the last one first; at most eight for each address family.
    pub heard: Vec<Peer>,
    /// What the priority depends on.
    pub tracked: Vec<Tracked>,
    /// Another node that claimed mastership while this node was master is heard from within the last down interval.
    pub second_master: bool,
    /// Times that began.
    pub second_masters: u64,
    pub addresses: Vec<String>,
    pub advertisements_sent: u64,
    pub advertisements_received: u64,
    /// Those of them whose checksum covers the pseudo-header, as keepalived and FRR send by default.
    pub pseudo_header_checksums: u64,
    /// To its addresses, dropped for it does not accept them; `None` when it accepts.
    pub refused_packets: Option<u64>,
    /// The last packet of this virtual router that was ignored.
    pub last_discarded: Option<Discarded>,
    /// Packets ignored, by reason.
    pub discarded: BTreeMap<String, u64>,
    /// Times each state was entered.
    pub transitions: BTreeMap<InstanceState, u64>,
    /// Those that no hook was told of, because the daemon was too busy to hear of them.
    #[serde(default)]
    pub lost_transitions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    Init,
    Backup,
    Master,
    Fault,
}

impl InstanceState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Master => "master",
            Self::Fault => "fault",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discarded {
    pub reason: String,
    pub at: f64,
}

/// A script or a FIFO that is told of transitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    pub name: String,
    /// Transitions that it was told.
    pub told: u64,
    /// Those that it failed to take.
    pub failed: u64,
    /// Those that were lost because too many were waiting.
    pub dropped: u64,
    pub waiting: u64,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// Something that an instance tracks; texts are for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
    pub subject: String,
    /// It neither lowers the priority nor keeps the instance in fault.
    pub ok: bool,
    /// What a failure does: `fault`, or what is added to the priority.
    pub effect: String,
    /// What was found last.
    pub detail: String,
    pub since: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    pub address: IpAddr,
    pub priority: u8,
    pub heard_at: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// As configured; of a service that was removed and whose backends still have flows, `NAME (removed, number N)`.
    pub name: String,
    /// Addresses with ports, as a configuration writes them. Empty for a service that was removed, as are the three texts
    /// that follow.
    pub listen: Vec<String>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `nat`, `fullnat`, `tunnel` or `direct`.
    pub forward: String,
    pub scheduler: String,
    /// Sums over its backends, those that have left the service included.
    pub traffic: Traffic,
    /// Sums over its backends too.
    pub active_flows: u64,
    pub inactive_flows: u64,
    pub backends: Vec<Backend>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// With its port, unless it is the one that the client wrote.
    pub address: String,
    pub weight: u16,
    pub state: BackendState,
    pub since: f64,
    /// Why it is in this state, for a person: the last check's answer, "no check configured", "by command", …
    pub reason: String,
    /// How long the last probe took; `None` before the first.
    pub check_seconds: Option<f64>,
    /// Part of new flows it gets now, 0 to 1.
    pub share: f64,
    pub traffic: Traffic,
    /// In use: TCP connections that neither end has begun to close, and every UDP flow.
    pub active_flows: u64,
    /// That have begun to end, and are remembered until what may still come has come.
    pub inactive_flows: u64,
    /// MAC address and interface packets leave by, or why there is none yet.
    pub next_hop: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// The first probe has not finished, or no way to it is known yet: takes no new flow.
    Checking,
    Up,
    /// By its check, or because there is no way to it.
    Down,
    /// No longer in the configuration, or taken out gently: takes no new flow, keeps those it has until they end or their
    /// time is over.
    Draining,
    /// Taken out at once, or its time to drain is over.
    Disabled,
}

/// What was forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// From clients.
    pub packets: u64,
    pub bytes: u64,
    /// To clients, with `nat` and `fullnat`: other replies do not pass the node.
    pub reply_packets: u64,
    pub reply_bytes: u64,
    pub new_flows: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    pub ipv4: FlowTable,
    pub ipv6: FlowTable,
    /// Flows removed because they were silent for too long.
    pub expired: u64,
    /// Flows by state, every state listed.
    pub states: BTreeMap<String, u64>,
}

/// The flow table of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTable {
    /// In use; a `nat` or `fullnat` flow has two.
    pub entries: u64,
    pub capacity: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    pub reason: String,
    /// `forward`, `answer`, `pass` or `drop`.
    pub verdict: String,
    pub packets: u64,
}
