//! A small data centre, for the demo and for tests.
//!
//! ```text
//!                client .100
//!                  │
//!  ──┬─────────────┴────┬──────────── outside 192.0.2.0/24 ─┬───
//!    │ eth0             │ eth0         virtual .10 (nat),    │ eth1
//!  lb-a .11           lb-b .12         .20 (tunnel)          │
//!    │ eth1             │ eth1                               │
//!  ──┴──────┬───────────┴──┬──────── inside 10.0.0.0/24 ─────┤ eth0
//!           │              │           virtual .1            │
//!         web-1 .11 …    db .31                            app-1 .21 …
//! ```
//!
//! The web and database servers' default gateway is the inside virtual address. The app servers take tunnelled
//! packets inside and answer the client directly, on the outside segment.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};

use super::servers::{MariaDb, Nginx};
use super::{Host, Node, Process, Segment, TestBed, node};

/// Of the services by `nat`: HTTP on port 80, MySQL on 3306.
pub const NAT_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Of the HTTP service by `tunnel`, on port 80.
pub const TUNNEL_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
/// Where the servers inside send what is not for their own segment.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// What to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// One or two.
    pub nodes: u8,
    /// Web servers that run.
    pub web: u8,
    /// Of these, web servers that are configured at the start.
    pub web_configured: u8,
    /// Servers behind the tunnel.
    pub app: u8,
    pub database: bool,
}

impl Plan {
    /// One node and two web servers.
    pub const WEB: Self = Self { nodes: 1, web: 2, web_configured: 2, app: 0, database: false };
    /// Two nodes and two web servers.
    pub const PAIR: Self = Self { nodes: 2, ..Self::WEB };
}

/// Fields are dropped from the first to the last: the bed goes at the end.
#[derive(Debug)]
pub struct DataCentre {
    plan: Plan,
    pub client: Host,
    /// The first has the higher priority.
    pub nodes: Vec<Node>,
    pub web: Vec<Web>,
    pub app: Vec<App>,
    pub database: Option<Database>,
    pub outside: Segment,
    pub inside: Segment,
    pub bed: TestBed,
}

#[derive(Debug)]
pub struct Web {
    pub host: Host,
    pub nginx: Nginx,
}

#[derive(Debug)]
pub struct App {
    pub host: Host,
    pub nginx: Nginx,
    pub decap: Process,
}

#[derive(Debug)]
pub struct Database {
    pub host: Host,
    pub server: MariaDb,
}

impl DataCentre {
    /// Builds it, and waits until each service can be used.
    ///
    /// # Errors
    /// A part does not start.
    pub fn build(bed: TestBed, plan: Plan, mut say: impl FnMut(&str)) -> Result<Self> {
        say("network: client, outside and inside segments");
        let outside = bed.segment("outside")?;
        let inside = bed.segment("inside")?;
        let client = bed.host("client")?;
        outside.attach(&client, "eth0", &["192.0.2.100/24"])?;

        let mut this = Self {
            plan,
            client,
            nodes: Vec::new(),
            web: Vec::new(),
            app: Vec::new(),
            database: None,
            outside,
            inside,
            bed,
        };
        for number in 1..=plan.web {
            say(&format!("web-{number}: nginx behind nat"));
            this.add_web(number)?;
        }
        for number in 1..=plan.app {
            say(&format!("app-{number}: nginx behind the tunnel"));
            this.add_app(number)?;
        }
        if plan.database {
            say("db: MariaDB behind nat (some seconds)");
            this.add_database()?;
        }
        for index in 0..plan.nodes {
            this.add_node(index, &mut say)?;
        }
        say("waiting for the election and the checks");
        this.wait_until_ready()?;
        Ok(this)
    }

    /// Where the HTTP service by `nat` is.
    #[must_use]
    pub fn web_service() -> SocketAddr {
        SocketAddr::from((NAT_ADDRESS, 80))
    }

    /// Where the HTTP service by `tunnel` is.
    #[must_use]
    pub fn app_service() -> SocketAddr {
        SocketAddr::from((TUNNEL_ADDRESS, 80))
    }

    /// Where the MySQL service is.
    #[must_use]
    pub fn database_service() -> SocketAddr {
        SocketAddr::from((NAT_ADDRESS, 3306))
    }

    /// The address that a web server, counted from 1, has in the configuration.
    #[must_use]
    pub fn web_backend(number: u8) -> String {
        format!("10.0.0.1{number}:80")
    }

    /// The configuration of a node, counted from 0, with so many web servers.
    ///
    /// # Errors
    /// None that occurs: the text is written to memory.
    pub fn configuration(&self, node: u8, web: u8) -> Result<String> {
        let mut text = format!(
            "node: {name}\n\
             interfaces: [eth0, eth1]\n\
             metrics: {{ listen: 127.0.0.1:9620 }}\n\n",
            name = node_name(node),
        );
        let outside = format!("{NAT_ADDRESS}/24, {TUNNEL_ADDRESS}/24");
        text += &instances(node, &outside, &format!("{GATEWAY}/24"), &[]);
        text.push_str("\nservices:\n");
        let http = "http: { path: /healthz, status: 200 }";
        let backends: Vec<String> = (1..=web).map(Self::web_backend).collect();
        write_service(&mut text, "web", Self::web_service(), "nat", http, &backends)?;
        if self.plan.app > 0 {
            let backends: Vec<String> =
                (1..=self.plan.app).map(|number| format!("10.0.0.2{number}:80")).collect();
            write_service(&mut text, "app", Self::app_service(), "tunnel", http, &backends)?;
        }
        if self.plan.database {
            let backends = ["10.0.0.31:3306".to_owned()];
            write_service(&mut text, "db", Self::database_service(), "nat", "tcp: {}", &backends)?;
        }
        Ok(text)
    }

    /// Saves a configuration with so many web servers on every node.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save_configuration(&self, web: u8) -> Result<()> {
        for (index, node) in (0..).zip(&self.nodes) {
            node.write_configuration(&self.configuration(index, web)?)?;
        }
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        use crate::status::InstanceState::{Backup, Master};
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.wait_until_instances(if index == 0 { Master } else { Backup })?;
        }
        self.nodes.iter_mut().try_for_each(|node| node.wait_until_backends_are_up().map(drop))
    }

    fn add_node(&mut self, index: u8, say: &mut impl FnMut(&str)) -> Result<()> {
        let name = node_name(index);
        say(&format!("{name}: evenkeel"));
        let host = self.bed.host(name)?;
        self.outside.attach(&host, "eth0", &[&format!("192.0.2.1{}/24", index + 1)])?;
        self.inside.attach(&host, "eth1", &[&format!("10.0.0.{}/24", index + 2)])?;
        let configuration = self.configuration(index, self.plan.web_configured)?;
        self.nodes.push(Node::start(&host, &configuration)?);
        Ok(())
    }

    fn add_web(&mut self, number: u8) -> Result<()> {
        let host = self.inside_host(&format!("web-{number}"), &format!("10.0.0.1{number}/24"))?;
        let nginx = Nginx::start(&host)?;
        self.web.push(Web { host, nginx });
        Ok(())
    }

    fn add_app(&mut self, number: u8) -> Result<()> {
        let host = self.bed.host(&format!("app-{number}"))?;
        self.inside.attach(&host, "eth0", &[&format!("10.0.0.2{number}/24")])?;
        self.outside.attach(&host, "eth1", &[&format!("192.0.2.2{number}/24")])?;
        host.hold_virtual_address(&TUNNEL_ADDRESS.to_string())?;
        let decap = node::decap(&host, "eth0", &[&format!("10.0.0.2{number}")])?;
        let nginx = Nginx::start(&host)?;
        self.app.push(App { host, nginx, decap });
        Ok(())
    }

    fn add_database(&mut self) -> Result<()> {
        let host = self.inside_host("db", "10.0.0.31/24")?;
        let server = MariaDb::start(&host)?;
        self.database = Some(Database { host, server });
        Ok(())
    }

    fn inside_host(&self, name: &str, address: &str) -> Result<Host> {
        let host = self.bed.host(name)?;
        self.inside.attach(&host, "eth0", &[address])?;
        host.add_route("default", &GATEWAY.to_string())?;
        Ok(host)
    }
}

/// The instances `outside` and `inside` of a node, counted from 0, with these addresses, and these keys (`key: value`) for
/// each.
#[must_use]
pub fn instances(node: u8, outside: &str, inside: &str, keys: &[&str]) -> String {
    let mut text = "vrrp:\n".to_owned();
    let priority = 150 - 50 * node;
    for (name, interface, vrid, addresses) in
        [("outside", "eth0", 51, outside), ("inside", "eth1", 52, inside)]
    {
        text += &format!(
            "  - name: {name}\n    \
               interface: {interface}\n    \
               vrid: {vrid}\n    \
               priority: {priority}\n    \
               advertise: 100ms\n    \
               addresses: [{addresses}]\n"
        );
        keys.iter().for_each(|key| text += &format!("    {key}\n"));
    }
    text
}

fn node_name(index: u8) -> &'static str {
    if index == 0 { "lb-a" } else { "lb-b" }
}

/// Checks are quick, so that nobody waits for them.
fn write_service(
    text: &mut String,
    name: &str,
    listen: SocketAddr,
    forward: &str,
    check: &str,
    backends: &[String],
) -> Result<()> {
    write!(
        text,
        "  - name: {name}\n    \
             listen: [\"{listen}\"]\n    \
             forward: {forward}\n    \
             check: {{ {check}, every: 500ms, timeout: 400ms, rise: 2, fall: 3 }}\n    \
             backends: [{}]\n",
        backends.join(", ")
    )
    .context("cannot write to memory")
}
