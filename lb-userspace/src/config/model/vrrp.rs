//! VRRP instances and what belongs to them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// One VRRP virtual router on one interface (RFC 9568, RFC 3768).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub name: String,
    pub interface: String,
    pub vrid: Vrid,
    pub version: Version,
    pub priority: Priority,
    /// Advertisement interval. Version 3: 10 ms to 40.95 s in steps of 10 ms (RFC 9568 section 5.2.7). Version 2: 1 s to
    /// 255 s in whole seconds (RFC 3768 section 5.3.7).
    pub advertise: Duration,
    pub preempt: Preempt,
    /// Whether the host accepts what is addressed to the virtual addresses while it is master. An owner always does.
    pub accept: bool,
    /// Whether the addresses are at the virtual router's own MAC address (RFC 9568 section 7.3), or at the interface's.
    pub virtual_mac: bool,
    pub checksum: Checksum,
    /// `None`: advertisements go to the multicast group.
    pub unicast: Option<Unicast>,
    pub authentication: Option<Authentication>,
    /// Time between bursts of announcements (gratuitous ARP, unsolicited NA) while nothing happens; `None`: only when
    /// something does.
    pub announce_every: Option<Duration>,
    /// 1 to 255 of them for each family, in the order of the file.
    pub addresses: Vec<VirtualAddress>,
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
    pub track: Vec<Track>,
    /// Instances of the same group have one state. Their `priority` and `preempt` are the same.
    pub group: Option<String>,
}

impl Instance {
    /// With every default, and no address yet.
    #[must_use]
    pub fn new(name: &str, interface: &str, vrid: Vrid) -> Self {
        Self {
            name: name.to_owned(),
            interface: interface.to_owned(),
            vrid,
            version: Version::V3,
            priority: Priority::DEFAULT,
            advertise: Duration::from_secs(1),
            preempt: Preempt::After(Duration::ZERO),
            accept: true,
            virtual_mac: false,
            checksum: Checksum::Auto,
            unicast: None,
            authentication: None,
            announce_every: None,
            addresses: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            track: Vec::new(),
            group: None,
        }
    }

    /// Virtual addresses of IPv4, in the order of the file.
    pub fn ipv4(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.addresses.iter().filter_map(|address| match address.prefix.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    /// Virtual addresses of IPv6, in the order of the file.
    pub fn ipv6(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses.iter().filter_map(|address| match address.prefix.address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        })
    }
}

/// Version of the protocol that an instance speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// RFC 3768: IPv4 only, whole seconds.
    V2,
    /// RFC 9568.
    #[default]
    V3,
}

/// Whether to take over from a master of lower priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preempt {
    Never,
    /// After a master of lower priority was heard for so long; 0: as soon as the protocol allows.
    After(Duration),
}

/// Checksum of advertisements of version 3 over IPv4 as they are sent. Both forms are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// As RFC 9568 says, until another node is heard that uses the other form.
    #[default]
    Auto,
    /// Over the message alone (RFC 9568 section 5.2.8).
    Message,
    /// Over a pseudo-header too: how RFC 5798 was read by keepalived and FRR.
    PseudoHeader,
}

/// Advertisements to single nodes instead of the multicast group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unicast {
    /// Of the families of the instance's virtual addresses, at least one for each. Only they are listened to.
    pub peers: Vec<IpAddr>,
    /// Address to send from, for each family at most one; the interface's first without.
    pub sources: Vec<IpAddr>,
    /// Least TTL or hop limit of what is accepted, 1 to 255. 255: from the same network only.
    pub min_ttl: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// RFC 2338's text password, in the clear: version 2 only, 1 to 8 bytes.
    Password(Secret),
    /// A keyed hash after the message, between Evenkeel nodes: version 3 only.
    Keys {
        /// In the order of the file: the first signs, each verifies.
        keys: Vec<Key>,
        /// Whether what carries no hash is refused; else it is accepted and counted.
        required: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub id: u8,
    /// 16 to 64 bytes.
    pub secret: Secret,
}

/// Bytes that appear in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(…)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualAddress {
    pub prefix: Prefix,
    /// Where the address is added, if not on the instance's interface.
    pub interface: Option<String>,
    /// As `ip address … label`; IPv4 only, at most 15 bytes, `INTERFACE:…`.
    pub label: Option<String>,
    pub scope: Scope,
}

/// Scope of an address or a route (rtnetlink(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Scope {
    #[default]
    Global,
    Site,
    Link,
    Host,
}

/// A route that the master has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// `0.0.0.0/0` or `::/0` is the default route.
    pub to: Prefix,
    pub via: Option<IpAddr>,
    /// The interface to leave by; needed without `via`.
    pub interface: Option<String>,
    pub source: Option<IpAddr>,
    pub metric: Option<u32>,
    /// 1 to 4294967295; 254 is the main table.
    pub table: u32,
}

/// A routing rule that the master has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub from: Option<Prefix>,
    pub to: Option<Prefix>,
    pub table: u32,
    /// Order among the rules, 1 to 32765.
    pub priority: u32,
}

/// Something that an instance's priority depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    pub subject: Subject,
    pub effect: Effect,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Up, with carrier.
    Interface(String),
    Script(Script),
    /// Content is a number; see [`Effect`].
    File(PathBuf),
    /// A process of this name runs.
    Process(String),
    /// The host answers ARP or ND; `None`: the gateway of the default route.
    Gateway(Option<IpAddr>),
    /// At least so many backends of the service are up.
    Service {
        name: String,
        min_backends: u32,
    },
}

/// A program that exits with 0 when all is well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Script {
    /// The program and its arguments; the program's path is absolute.
    pub command: Vec<String>,
    /// `None`: nobody.
    pub user: Option<String>,
    pub every: Duration,
    pub timeout: Duration,
    /// Successes in a row to be well, failures in a row to be ill.
    pub rise: u32,
    pub fall: u32,
}

/// What a failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The instance is in `fault`. For a file: when its number is not 0.
    Fault,
    /// Added to the priority: a negative one while it fails, a positive one while it does not; -253 to 253, never 0. For a
    /// file: times its number.
    Weight(i16),
}

/// Who is told of transitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    pub scripts: Vec<HookScript>,
    /// A FIFO that is written one JSON object a line, in order.
    pub fifo: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookScript {
    /// The program and its arguments; instance, state and priority follow them.
    pub command: Vec<String>,
    /// `None`: nobody.
    pub user: Option<String>,
    pub timeout: Duration,
}

/// Virtual router identifier, 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(u8);

impl Vrid {
    /// `None` for 0, which RFC 9568 section 5.2.3 leaves out.
    #[must_use]
    pub const fn new(vrid: u8) -> Option<Self> {
        if vrid == 0 { None } else { Some(Self(vrid)) }
    }

    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

/// Priority of a node in an election, 1 to 254; 255 is the owner of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    pub const OWNER: Self = Self(255);
    /// RFC 9568 section 5.2.4: of a router that was given none.
    pub const DEFAULT: Self = Self(100);

    /// `None` for 0, which only a master that stops sends (RFC 9568 section 5.2.4).
    #[must_use]
    pub const fn new(priority: u8) -> Option<Self> {
        if priority == 0 { None } else { Some(Self(priority)) }
    }

    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

/// An address with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    pub address: IpAddr,
    pub length: u8,
}

impl From<Prefix> for VirtualAddress {
    fn from(prefix: Prefix) -> Self {
        Self { prefix, interface: None, label: None, scope: Scope::Global }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}
