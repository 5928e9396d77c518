//! One node, and servers that take every forwarding method in both families.
//!
//! ```text
//!              client .100, .101
//!  ──┬────────────┴──────────┬─── outside 192.0.2.0/24, 2001:db8:1::/64 ──┬───
//!    │ eth0 .11              │                                           │ eth1 (answers by tunnel and direct)
//!  node                      │                                           s1 .21, s2 .22 …
//!    │ eth1 .2               │                                           │ eth0
//!  ──┴───────────────────────┴─── inside 10.0.0.0/24, fd00::/64, MTU 1600 ┴───
//! ```
//!
//! With one arm there is one segment, and every interface is `eth0`. The servers' default gateway is the node; what
//! they send from an address of a service goes straight to the client. Inside is room for tunnel headers.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

use super::servers::{Nginx, UdpNames};
use super::{Host, Node, Process, Segment, TestBed, node};

/// What the segment inside takes: an Ethernet packet in the longest tunnel header.
pub const INSIDE_MTU: u16 = 1600;

/// Ports of every service: HTTP by TCP, names by UDP.
pub const HTTP: u16 = 80;
pub const NAMES: u16 = 53;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arms {
    One,
    Two,
}

/// A forwarding method, with what it differs by on the wire; the number is in the addresses of its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    Nat = 30,
    FullNat = 40,
    Direct = 50,
    /// IP in IPv4.
    IpIn4 = 60,
    /// IP in IPv6.
    IpIn6 = 70,
    /// GUE over IPv4.
    GueOver4 = 80,
    /// GUE over IPv6.
    GueOver6 = 90,
}

impl Method {
    pub const ALL: [Self; 7] =
        [Self::Nat, Self::FullNat, Self::Direct, Self::IpIn4, Self::IpIn6, Self::GueOver4, Self::GueOver6];
    pub const TUNNELS: [Self; 4] = [Self::IpIn4, Self::IpIn6, Self::GueOver4, Self::GueOver6];

    /// Of its services, by IPv4 and by IPv6.
    #[must_use]
    pub fn addresses(self) -> [IpAddr; 2] {
        let number = self as u8;
        [
            Ipv4Addr::new(192, 0, 2, number).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number.into()).into(),
        ]
    }

    /// Where its service of a port is, by IPv4 and by IPv6.
    #[must_use]
    pub fn services(self, port: u16) -> [SocketAddr; 2] {
        self.addresses().map(|address| SocketAddr::new(address, port))
    }

    /// Of its HTTP service, in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::FullNat => "fullnat",
            Self::Direct => "direct",
            Self::IpIn4 => "ip-in-4",
            Self::IpIn6 => "ip-in-6",
            Self::GueOver4 => "gue-over-4",
            Self::GueOver6 => "gue-over-6",
        }
    }

    const fn forward(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::FullNat => "{ fullnat: { sources: [10.0.0.5, \"fd00::5\"] } }",
            Self::Direct => "direct",
            Self::IpIn4 | Self::IpIn6 => "tunnel",
            Self::GueOver4 | Self::GueOver6 => "{ tunnel: { encapsulation: gue } }",
        }
    }

    /// What a server is called by it.
    fn backends(self, server: u8, port: u16) -> Vec<SocketAddr> {
        let [v4, v6] = server_addresses(server).map(|address| SocketAddr::new(address, port));
        match self {
            Self::Nat | Self::FullNat | Self::Direct => vec![v4, v6],
            Self::IpIn4 | Self::GueOver4 => vec![v4],
            Self::IpIn6 | Self::GueOver6 => vec![v6],
        }
    }

    /// Whether the server itself has the service's address, and answers the client without the node.
    #[must_use]
    pub const fn answers_directly(self) -> bool {
        !matches!(self, Self::Nat | Self::FullNat)
    }
}

/// Of the server with this number, from 1.
#[must_use]
pub fn server_addresses(number: u8) -> [IpAddr; 2] {
    let number = 20 + number;
    [
        Ipv4Addr::new(10, 0, 0, number).into(),
        // Written as the other: s1 is 10.0.0.21 and fd00::21.
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number) + 12).into(),
    ]
}

/// Fields are dropped from the first to the last: the bed goes at the end.
#[derive(Debug)]
pub struct DualStack {
    pub arms: Arms,
    pub client: Host,
    pub node: Node,
    pub servers: Vec<Server>,
    pub outside: Segment,
    /// With one arm the same as outside.
    pub inside: Segment,
    pub bed: TestBed,
}

#[derive(Debug)]
pub struct Server {
    pub host: Host,
    pub nginx: Nginx,
    _names: Vec<UdpNames>,
    _decap: Process,
}

impl DualStack {
    /// Builds it with so many servers and, to all of them, services by every method; waits until all are up.
    ///
    /// # Errors
    /// A part does not start.
    pub fn build(bed: TestBed, arms: Arms, servers: u8) -> Result<Self> {
        Self::build_with(bed, arms, servers, &services(&Method::ALL, servers)?)
    }

    /// The same with other services, as YAML below `services:`.
    ///
    /// # Errors
    /// A part does not start.
    pub fn build_with(bed: TestBed, arms: Arms, servers: u8, services: &str) -> Result<Self> {
        let outside = bed.segment("outside")?;
        let inside = if arms == Arms::One { outside.clone() } else { bed.segment("inside")? };
        let client = bed.host("client")?;
        let addresses = ["192.0.2.100/24", "192.0.2.101/24", "2001:db8:1::100/64", "2001:db8:1::101/64"];
        outside.attach(&client, "eth0", &addresses)?;

        let host = bed.host("node")?;
        outside.attach(&host, "eth0", &["192.0.2.11/24", "2001:db8:1::11/64"])?;
        if arms == Arms::Two {
            inside.attach(&host, "eth1", &[])?;
        }
        for address in ["10.0.0.2/24", "fd00::2/64", "10.0.0.5/24", "fd00::5/64"] {
            host.add_address(inner(arms), address)?;
        }
        inside.set_mtu(&host, inner(arms), INSIDE_MTU)?;
        for address in Method::ALL.iter().flat_map(|method| method.addresses()) {
            let length = if address.is_ipv4() { 24 } else { 64 };
            host.add_address("eth0", &format!("{address}/{length}"))?;
        }

        let servers = (1..=servers).map(|number| Server::start(&bed, number, arms, &inside, &outside));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let mut node = Node::start(&host, &configuration(arms, services))?;
        node.wait_until_backends_are_up()?;
        Ok(Self { arms, client, node, servers, outside, inside, bed })
    }

    /// Saves a configuration with these services, and waits until it is applied.
    ///
    /// # Errors
    /// It is refused.
    pub fn apply(&mut self, services: &str) -> Result<()> {
        self.node.write_configuration(&configuration(self.arms, services))?;
        self.node.evenkeel(&["apply"]).map(drop)
    }

    /// Makes the way inside take packets of at most this size.
    ///
    /// # Errors
    /// The MTU is none.
    pub fn set_inside_mtu(&self, mtu: u16) -> Result<()> {
        self.inside.set_mtu(self.node.host(), inner(self.arms), mtu)
    }
}

impl Server {
    fn start(bed: &TestBed, number: u8, arms: Arms, inside: &Segment, outside: &Segment) -> Result<Self> {
        let host = bed.host(&format!("s{number}"))?;
        let [v4, v6] = server_addresses(number);
        inside.attach(&host, "eth0", &[&format!("{v4}/24"), &format!("{v6}/64")])?;
        inside.set_mtu(&host, "eth0", INSIDE_MTU)?;
        // It takes what a tunnel adds, and sends no more than the client's segment takes.
        for (gateway, source) in [("10.0.0.2", "10.0.0.5"), ("fd00::2", "fd00::5")] {
            host.run(["ip", "route", "add", "default", "via", gateway, "mtu", "1500"])?;
            host.run(["ip", "route", "add", source, "dev", "eth0", "mtu", "1500"])?;
        }
        if arms == Arms::Two {
            outside.attach(&host, "eth1", &[])?;
        }
        answer_directly(&host, number, inner(arms))?;
        let mut names = Vec::new();
        let own = [v4, v6];
        let direct = Method::ALL.iter().filter(|method| method.answers_directly());
        let virtual_addresses: Vec<IpAddr> = direct.flat_map(|method| method.addresses()).collect();
        for address in &virtual_addresses {
            host.hold_virtual_address(&address.to_string())?;
        }
        for address in own.iter().chain(&virtual_addresses) {
            names.push(UdpNames::start(&host, &SocketAddr::new(*address, NAMES).to_string())?);
        }
        let decap = node::decap(&host, "eth0", &[&v4.to_string(), &v6.to_string()])?;
        let nginx = Nginx::start(&host)?;
        Ok(Self { host, nginx, _names: names, _decap: decap })
    }
}

/// What is sent from an address of a service goes out by this interface, whatever the other routes say.
fn answer_directly(host: &Host, number: u8, interface: &str) -> Result<()> {
    const TABLE: &str = "100";
    for (family, address, network) in [
        ("-4", format!("192.0.2.2{number}/24"), "192.0.2.0/24"),
        ("-6", format!("2001:db8:1::2{number}/64"), "2001:db8:1::/64"),
    ] {
        host.run(["ip", "address", "add", &address, "dev", interface, "noprefixroute"])?;
        host.run(["ip", family, "rule", "add", "from", network, "lookup", TABLE])?;
        host.run(["ip", family, "route", "add", network, "dev", interface, "table", TABLE, "mtu", "1500"])?;
    }
    Ok(())
}

/// Services by these methods, to so many servers: HTTP under the method's name, names under `NAME-udp`.
///
/// # Errors
/// None that occurs: the text is written to memory.
pub fn services(methods: &[Method], servers: u8) -> Result<String> {
    let mut text = String::new();
    for method in methods {
        for (suffix, protocol, port) in [("", "tcp", HTTP), ("-udp", "udp", NAMES)] {
            let check = if protocol == "tcp" { CHECK } else { "" };
            let extra = format!("    protocol: {protocol}\n{check}");
            text += &service(&format!("{}{suffix}", method.name()), *method, port, servers, &extra)?;
        }
    }
    Ok(text)
}

/// Quick, so that nobody waits for it.
pub const CHECK: &str = "    check: { tcp: {}, every: 300ms, timeout: 250ms, rise: 1, fall: 2 }\n";

/// One service; `extra` is lines of YAML, each indented by four.
///
/// # Errors
/// None that occurs: the text is written to memory.
pub fn service(name: &str, method: Method, port: u16, servers: u8, extra: &str) -> Result<String> {
    let quoted = |sockets: Vec<SocketAddr>| {
        let quoted: Vec<String> = sockets.iter().map(|socket| format!("\"{socket}\"")).collect();
        quoted.join(", ")
    };
    let backends = (1..=servers).flat_map(|server| method.backends(server, port)).collect();
    let mut text = String::new();
    write!(
        text,
        "  - name: {name}\n    \
             listen: [{}]\n    \
             forward: {}\n    \
             backends: [{}]\n\
             {extra}",
        quoted(method.services(port).into()),
        method.forward(),
        quoted(backends),
    )
    .context("cannot write to memory")?;
    Ok(text)
}

fn configuration(arms: Arms, services: &str) -> String {
    let interfaces = if arms == Arms::One { "eth0" } else { "eth0, eth1" };
    format!(
        "node: node\ninterfaces: [{interfaces}]\nmetrics: {{ listen: 127.0.0.1:9620 }}\n\
         flows: {{ ipv4: 65536, ipv6: 65536 }}\nservices:\n{services}"
    )
}

/// A node's interface to its servers, and a server's to its clients.
const fn inner(arms: Arms) -> &'static str {
    if matches!(arms, Arms::One) { "eth0" } else { "eth1" }
}
