//! Positioned tree → [`Config`]. Every mistake is collected before any is returned.

#![deny(clippy::disallowed_methods)]

mod addresses;
mod check;
mod command;
mod flows;
mod hooks;
mod pace;
mod reader;
mod services;
mod suggest;
mod values;
mod vrrp;

use std::net::SocketAddr;

use reader::{Fields, Item, Read, Reader, Shape, Unique};
use values::Choice;
pub use values::parse_duration;

use super::model::{Config, Interface, Metrics, XdpMode};
use super::source::ReadSecret;
use super::yaml::{self, Node, Value};
use super::{Host, Mistake, Mistakes};

const ROOT: Shape = Shape {
    what: "a configuration",
    keys: &["node", "interfaces", "metrics", "vrrp", "hooks", "flows", "services"],
    later: &[],
    example: "interfaces: [eth0]",
};

const INTERFACE: Shape = Shape {
    what: "an interface",
    keys: &["name", "mode"],
    later: &[],
    example: "{ name: eth0, mode: auto }",
};

const METRICS: Shape =
    Shape { what: "metrics", keys: &["listen"], later: &[], example: "{ listen: 127.0.0.1:9620 }" };

const MODE: Choice<XdpMode> = Choice {
    what: "a way to attach XDP",
    words: &[("native", XdpMode::Native), ("generic", XdpMode::Generic), ("auto", XdpMode::Auto)],
    instead: &[],
    later: &[],
};

/// Reads a configuration for `host` from `text`; `file` names it in messages, `secrets` gives the files of keys.
pub(super) fn parse(
    text: &str,
    file: &str,
    host: &Host,
    secrets: ReadSecret<'_>,
) -> Result<Config, Mistakes> {
    let root = yaml::read(text).map_err(|error| {
        let yaml::SyntaxError { line, column, message } = error;
        Mistakes::new(file, vec![Mistake { line, column, path: String::new(), message }])
    })?;
    if root.value == Value::Null {
        let message = "the file is empty; write at least `interfaces` and `services`, or `vrrp`";
        return Err(Mistakes::of_file(file, message.into()));
    }
    let mut reader = Reader::new(host, secrets);
    let config = config(&mut reader, &root);
    let mistakes = reader.into_mistakes();
    match config {
        Ok(config) if mistakes.is_empty() => Ok(config),
        _ => Err(Mistakes::new(file, mistakes)),
    }
}

fn config(reader: &mut Reader<'_>, root: &Node) -> Read<Config> {
    let fields = reader.fields(&Item::root(root), &ROOT)?;
    let node = reader.optional(&fields, "node", Reader::name);
    let interfaces = reader.optional(&fields, "interfaces", interfaces);
    let metrics = reader.optional(&fields, "metrics", metrics);
    let pools = services::pools(&fields);
    let vrrp = reader.optional(&fields, "vrrp", |reader, item| vrrp::instances(reader, item, &pools));
    let hooks = reader.optional(&fields, "hooks", hooks::hooks);
    let flows = reader.optional(&fields, "flows", flows::flows);
    let services = reader.optional(&fields, "services", services::services);
    require_interfaces(reader, &fields);
    Ok(Config {
        node: node?.unwrap_or_else(|| reader.host.hostname.clone()),
        interfaces: interfaces?.unwrap_or_default(),
        metrics: metrics?,
        vrrp: vrrp?.unwrap_or_default(),
        hooks: hooks?.unwrap_or_default(),
        flows: flows?.unwrap_or_default(),
        services: services?.unwrap_or_default(),
    })
}

/// Services without an interface would never see a packet.
fn require_interfaces(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    let empty = |item: &Item<'_>| matches!(&item.node.value, Value::List(items) if items.is_empty());
    let Some(services) = fields.get("services").filter(|services| !empty(services)) else { return };
    let (place, problem) = match fields.get("interfaces") {
        None if fields.mistyped("interfaces") => return,
        None => (services.place(), "services need `interfaces`"),
        Some(item) if empty(&item) => (item.place(), "the list is empty"),
        Some(_) => return,
    };
    let message = format!(
        "{problem}; name the interfaces that clients and backends are reached by: `interfaces: [eth0]`"
    );
    reader.mistake(&place, message);
}

fn interfaces(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Vec<Interface>> {
    let items = reader.list(item, "[eth0, eth1]")?;
    let mut names = Unique::default();
    reader.each(&items, |reader, item| {
        let interface = interface(reader, item)?;
        names.claim(reader, &item.place(), interface.name.clone(), |line| {
            format!("`{}` is in the list already, on line {line}; remove one of the two", interface.name)
        })?;
        Ok(interface)
    })
}

fn interface(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Interface> {
    if !matches!(item.node.value, Value::Map(_)) {
        return Ok(Interface { name: reader.interface(item)?, mode: XdpMode::default() });
    }
    let fields = reader.fields(item, &INTERFACE)?;
    let name = reader.required(&fields, "name", "eth0", Reader::interface);
    let mode = reader.optional(&fields, "mode", |reader, item| reader.choice(item, &MODE));
    Ok(Interface { name: name?, mode: mode?.unwrap_or_default() })
}

fn metrics(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Metrics> {
    const EXAMPLE: &str = "127.0.0.1:9620";
    let fields = reader.fields(item, &METRICS)?;
    let listen: SocketAddr =
        reader.required(&fields, "listen", EXAMPLE, |reader, item| reader.socket(item, EXAMPLE))?;
    Ok(Metrics { listen })
}
