//! `services`: what clients connect to, and its backends.

mod admission;
mod backends;
mod forward;
mod listen;
mod rules;
mod schedule;

use std::collections::BTreeMap;
use std::time::Duration;

use super::flows::LONG;
use super::reader::{Fields, Item, Read, Reader, Shape, Unique};
use super::values::Choice;
use super::{check, suggest};
use crate::config::model::{OnDown, Protocol, Quic, Service};
use crate::config::yaml::{Node, Value};

const SERVICE: Shape = Shape {
    what: "a service",
    keys: &[
        "name",
        "listen",
        "protocol",
        "forward",
        "scheduler",
        "check",
        "backends",
        "down",
        "drain",
        "persistence",
        "limits",
        "allow",
        "deny",
        "mss",
        "quic",
        "per_packet",
    ],
    later: &[],
    example: "{ name: web, listen: [203.0.113.10:80], forward: nat, backends: [10.0.0.11:8080] }",
};
const LIST: &str = "[{ name: web, listen: [203.0.113.10:80], forward: nat, backends: [10.0.0.11:8080] }]";

const QUIC: Shape = Shape { what: "quic", keys: &["id_length"], later: &[], example: "{ id_length: 4 }" };

const PROTOCOL: Choice<Protocol> = Choice {
    what: "a protocol",
    words: &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)],
    instead: &[],
    later: &["sctp"],
};

const DOWN: Choice<OnDown> = Choice {
    what: "a way to treat the flows of a backend that is down",
    words: &[("reset", OnDown::Reset), ("rehash", OnDown::Rehash)],
    instead: &[],
    later: &[],
};

/// Names of the services as they are written, and how many backends each has, whatever else is wrong with them.
pub(super) fn pools<'a>(root: &Fields<'a>) -> BTreeMap<&'a str, usize> {
    let Some(Item { node: Node { value: Value::List(services), .. }, .. }) = root.get("services") else {
        return BTreeMap::new();
    };
    services.iter().filter_map(pool).collect()
}

fn pool(service: &Node) -> Option<(&str, usize)> {
    let Value::Map(entries) = &service.value else { return None };
    let value = |key: &str| {
        entries
            .iter()
            .find(|(name, _)| matches!(&name.value, Value::Text(text) if text == key))
            .map(|(_, node)| &node.value)
    };
    let Some(Value::Text(name)) = value("name") else { return None };
    let backends = if let Some(Value::List(backends)) = value("backends") { backends.len() } else { 0 };
    Some((name, backends))
}

/// What may be used only once, and what is compared with all services at the end.
#[derive(Default)]
struct Taken {
    names: Unique<String>,
    listens: listen::Taken,
    backends: backends::Taken,
    sources: forward::Taken,
}

pub(super) fn services(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Vec<Service>> {
    let items = reader.list(item, LIST)?;
    let mut taken = Taken::default();
    let services = reader.each(&items, |reader, item| service(reader, item, &mut taken));
    taken.backends.refuse_loops(reader, &taken.listens);
    taken.sources.refuse_listens(reader, &taken.listens);
    services
}

fn service(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut Taken) -> Read<Service> {
    let fields = reader.fields(item, &SERVICE)?;
    let name = reader.required(&fields, "name", "web", |reader, item| name(reader, item, taken));
    let protocol = reader
        .optional(&fields, "protocol", |reader, item| reader.choice(item, &PROTOCOL))
        .map(Option::unwrap_or_default);
    // What a slip was meant to be serves to find what else is wrong.
    let known_protocol = protocol.as_ref().ok().copied().or_else(|| PROTOCOL.meant(&fields.get("protocol")?));
    let forward = reader.required(&fields, "forward", "nat", |reader, item| {
        forward::forward(reader, item, &mut taken.sources)
    });
    let schedule = schedule::schedule(reader, &fields);
    let down = reader.optional(&fields, "down", |reader, item| reader.choice(item, &DOWN));
    let drain = reader.optional(&fields, "drain", drain);
    let admission = admission::admission(reader, &fields);
    let mss = reader.optional(&fields, "mss", |reader, item| reader.integer(item, "an MSS", 536..=9000));
    let quic = reader.optional(&fields, "quic", quic);
    let listen = reader.required(&fields, "listen", "[203.0.113.10:80]", |reader, item| {
        listen::listen(reader, item, known_protocol, &mut taken.listens)
    });
    let check = reader.optional(&fields, "check", check::check);
    let pool = backends::Pool {
        method: forward::method(&fields, &forward),
        protocol: known_protocol,
        scheduler: schedule::scheduler(&fields, &schedule),
        per_packet: schedule.per_packet(),
        listen: listen.as_ref().ok().map(Vec::as_slice),
        served: listen.as_ref().ok().map(|listen| listen::Served::new(listen)),
        quic: quic.as_ref().ok().copied(),
    };
    let backends = reader.required(&fields, "backends", "[10.0.0.11:8080]", |reader, item| {
        backends::backends(reader, item, &pool, &mut taken.backends)
    });
    rules::check(
        reader,
        &fields,
        &pool,
        &rules::Parts { forward: &forward, check: &check, backends: &backends },
    );
    let (admission, schedule) = (admission?, schedule.whole()?);
    Ok(Service {
        name: name?,
        listen: listen?.into_iter().map(|(listen, _)| listen).collect(),
        protocol: protocol?,
        forward: forward?,
        scheduler: schedule.scheduler,
        per_packet: schedule.per_packet,
        down: down?.unwrap_or_default(),
        drain: drain?.flatten(),
        persistence: schedule.persistence,
        limits: admission.limits,
        allow: admission.allow,
        deny: admission.deny,
        mss: mss?,
        quic: quic?,
        check: check?,
        backends: backends?.into_iter().map(|(backend, _)| backend).collect(),
    })
}

fn name(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut Taken) -> Read<String> {
    let name = reader.name(item)?;
    taken.names.claim(reader, &item.place(), name.clone(), |line| {
        format!("the service on line {line} is called `{name}` too; give each a name of its own")
    })?;
    Ok(name)
}

/// `None`: forever.
fn drain(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Option<Duration>> {
    match &item.node.value {
        Value::Text(text) if text == "forever" => Ok(None),
        Value::Text(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
            let message = format!(
                "`{}` is no time to drain; write `forever`, or a number and its unit such as `5m`",
                suggest::shorten(text)
            );
            Err(reader.mistake(&item.place(), message))
        }
        _ => reader.duration(item, LONG, "5m").map(Some),
    }
}

fn quic(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Quic> {
    let fields = reader.fields(item, &QUIC)?;
    let id_length = reader.required(&fields, "id_length", "4", |reader, item| {
        reader.integer(item, "the length of a server id in bytes", 1..=backends::MAX_ID)
    })?;
    Ok(Quic { id_length })
}
