//! `forward`: the forwarding method and its settings.

use std::net::IpAddr;

use super::listen;
use crate::config::model::{Encapsulation, Forward, ForwardingMethod, FullNat, Ports, Tunnel, TunnelSource};
use crate::config::parse::addresses::family;
use crate::config::parse::reader::{Fields, Item, Place, Read, Reader, Shape, Unique};
use crate::config::parse::values::Choice;
use crate::config::yaml::Value;

const METHOD: Choice<ForwardingMethod> = Choice {
    what: "a forwarding method",
    words: &[
        ("nat", ForwardingMethod::Nat),
        ("fullnat", ForwardingMethod::FullNat),
        ("tunnel", ForwardingMethod::Tunnel),
        ("direct", ForwardingMethod::Direct),
    ],
    instead: &[
        ("masq", "nat"),
        ("dnat", "nat"),
        ("snat", "fullnat"),
        ("tun", "tunnel"),
        ("ipip", "tunnel"),
        ("gue", "tunnel"),
        ("dr", "direct"),
        ("dsr", "direct"),
    ],
    later: &[],
};

const METHODS: Shape = Shape {
    what: "a forwarding method",
    keys: &["nat", "fullnat", "tunnel", "direct"],
    later: &[],
    example: "{ tunnel: { encapsulation: gue } }",
};

const TUNNEL: Shape = Shape {
    what: "tunnel",
    keys: &["encapsulation", "port", "sources"],
    later: &[],
    example: "{ encapsulation: gue, sources: [10.255.0.0/16] }",
};

const FULLNAT: Shape = Shape {
    what: "fullnat",
    keys: &["sources", "ports"],
    later: &[],
    example: "{ sources: [10.0.0.5], ports: 1024-65535 }",
};

#[derive(Clone, Copy)]
enum Wrapping {
    Ip,
    Gue,
}

const ENCAPSULATION: Choice<Wrapping> = Choice {
    what: "an encapsulation",
    words: &[("ip", Wrapping::Ip), ("gue", Wrapping::Gue)],
    instead: &[("ipip", "ip")],
    later: &[],
};

/// IANA's port for GUE.
const GUE_PORT: u16 = 6080;
/// The default: no well-known port.
const SOURCE_PORTS: Ports = Ports { first: 1024, last: u16::MAX };
/// Of one family.
const MAX_SOURCES: usize = 16;

/// Source addresses of `fullnat`, to be compared with the listen addresses of all services.
#[derive(Default)]
pub(super) struct Taken(Vec<(Place, IpAddr)>);

impl Taken {
    /// An answer to a listen address would be taken for a new flow of the service.
    pub(super) fn refuse_listens(&self, reader: &mut Reader<'_>, listens: &listen::Taken) {
        for (place, address) in &self.0 {
            if let Some(line) = listens.line_of_address(*address) {
                let message = format!(
                    "{address} is the listen address of a service, on line {line}; write an address of this node that \
                     nothing else uses"
                );
                reader.mistake(place, message);
            }
        }
    }
}

/// The method, also of what is wrong otherwise, as far as it can be told.
pub(super) fn method(fields: &Fields<'_>, forward: &Read<Forward>) -> Option<ForwardingMethod> {
    if let Ok(forward) = forward {
        return Some(forward.method());
    }
    let item = fields.get("forward")?;
    match &item.node.value {
        Value::Map(entries) => match entries.as_slice() {
            [(key, _)] => {
                let word =
                    |(word, _): &&(&str, ForwardingMethod)| matches!(&key.value, Value::Text(t) if t == word);
                METHOD.words.iter().find(word).map(|(_, method)| *method)
            }
            _ => None,
        },
        _ => METHOD.meant(&item),
    }
}

pub(super) fn forward(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut Taken) -> Read<Forward> {
    if !matches!(item.node.value, Value::Map(_)) {
        return match reader.choice(item, &METHOD)? {
            ForwardingMethod::Nat => Ok(Forward::Nat),
            ForwardingMethod::Direct => Ok(Forward::Direct),
            ForwardingMethod::Tunnel => Ok(Forward::Tunnel(Tunnel::default())),
            ForwardingMethod::FullNat => {
                let message = "`fullnat` needs source addresses; write `{ fullnat: { sources: [10.0.0.5] } }` with \
                               addresses of this node that nothing else uses";
                Err(reader.mistake(&item.place(), message))
            }
        };
    }
    let fields = reader.fields(item, &METHODS)?;
    let nat = reader.optional(&fields, "nat", |reader, item| plain(reader, item, Forward::Nat));
    let direct = reader.optional(&fields, "direct", |reader, item| plain(reader, item, Forward::Direct));
    let tunnel = reader.optional(&fields, "tunnel", tunnel);
    let fullnat = reader.optional(&fields, "fullnat", |reader, item| fullnat(reader, item, taken));
    let written: Vec<&str> = METHODS.keys.iter().copied().filter(|key| fields.get(key).is_some()).collect();
    if let [first, second, ..] = written.as_slice() {
        let message =
            format!("both `{first}` and `{second}`; a service has one forwarding method, so keep one");
        return Err(reader.mistake(&fields.at, message));
    }
    match nat?.or(direct?).or(tunnel?).or(fullnat?) {
        Some(forward) => Ok(forward),
        None => Err(fields.refused().unwrap_or_else(|| {
            reader.mistake(
                &fields.at,
                "there is no forwarding method; write `nat`, `direct`, `tunnel` or `fullnat`",
            )
        })),
    }
}

/// A method without settings.
fn plain(reader: &mut Reader<'_>, item: &Item<'_>, method: Forward) -> Read<Forward> {
    const NONE: Shape = Shape { what: "a method without settings", keys: &[], later: &[], example: "{}" };
    if item.node.value != Value::Null {
        reader.fields(item, &NONE)?;
    }
    Ok(method)
}

fn tunnel(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Forward> {
    if item.node.value == Value::Null {
        return Ok(Forward::Tunnel(Tunnel::default()));
    }
    let fields = reader.fields(item, &TUNNEL)?;
    let wrapping =
        reader.optional(&fields, "encapsulation", |reader, item| reader.choice(item, &ENCAPSULATION));
    let gue = !matches!(wrapping, Ok(None | Some(Wrapping::Ip)));
    let port = reader.optional(&fields, "port", |reader, item| {
        if gue {
            return reader.integer(item, "a port", 1..=u16::MAX);
        }
        let message = "only `gue` has a port; write `encapsulation: gue` too, or remove the port";
        Err(reader.mistake(&item.place(), message))
    });
    let source = reader.optional(&fields, "sources", tunnel_source);
    let (wrapping, port) = (wrapping?, port?);
    let encapsulation = match wrapping.unwrap_or(Wrapping::Ip) {
        Wrapping::Ip => Encapsulation::Ip,
        Wrapping::Gue => Encapsulation::Gue { port: port.unwrap_or(GUE_PORT) },
    };
    Ok(Forward::Tunnel(Tunnel { encapsulation, source: source?.unwrap_or_default() }))
}

fn tunnel_source(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<TunnelSource> {
    let mut source = TunnelSource::default();
    let mut families = Unique::default();
    reader.each(&item.one_or_more(), |reader, item| {
        let prefix = reader.network(item, "10.255.0.0/16")?;
        reader.host_address(item, prefix.address)?;
        let family = family(prefix.address);
        families.claim(reader, &item.place(), family, |line| {
            format!("there is an {family} prefix already, on line {line}; write one for each family")
        })?;
        let slot = if prefix.address.is_ipv4() { &mut source.ipv4 } else { &mut source.ipv6 };
        *slot = Some(prefix);
        Ok(())
    })?;
    Ok(source)
}

fn fullnat(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut Taken) -> Read<Forward> {
    let fields = reader.fields(item, &FULLNAT)?;
    let sources = reader
        .required(&fields, "sources", "[10.0.0.5]", |reader, item| fullnat_sources(reader, item, taken));
    let ports = reader.optional(&fields, "ports", |reader, item| reader.ports(item, "1024-65535"));
    Ok(Forward::FullNat(FullNat { sources: sources?, ports: ports?.unwrap_or(SOURCE_PORTS) }))
}

fn fullnat_sources(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut Taken) -> Read<Vec<IpAddr>> {
    let items = item.one_or_more();
    if items.is_empty() {
        let message =
            "the list is empty; write addresses of this node that nothing else uses, such as `[10.0.0.5]`";
        return Err(reader.mistake(&item.place(), message));
    }
    let mut addresses = Unique::default();
    let sources = reader.each(&items, |reader, item| {
        let address = reader.address(item, "10.0.0.5")?;
        addresses.claim(reader, &item.place(), address, |line| {
            format!("{address} is in the list already, on line {line}; remove one of the two")
        })?;
        taken.0.push((item.place(), address));
        Ok(address)
    })?;
    let ipv4 = sources.iter().filter(|address| address.is_ipv4()).count();
    let (most, family) = if ipv4 > MAX_SOURCES { (ipv4, "IPv4") } else { (sources.len() - ipv4, "IPv6") };
    if most > MAX_SOURCES {
        let message = format!("{most} {family} addresses; write at most {MAX_SOURCES} of each family");
        return Err(reader.mistake(&item.place(), message));
    }
    Ok(sources)
}
