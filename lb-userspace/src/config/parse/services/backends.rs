//! `backends` of a service.

use std::net::{IpAddr, SocketAddr};

use super::listen;
use crate::config::model::{
    Admin, Backend, ConnectionLimit, ForwardingMethod, Listen, Protocol, Quic, Scheduler,
};
use crate::config::parse::reader::{Item, Place, Read, Reader, Shape, Unique, describe};
use crate::config::parse::values::Choice;
use crate::config::yaml::Value;

const BACKEND: Shape = Shape {
    what: "a backend",
    keys: &["address", "weight", "limit", "state", "quic_id"],
    later: &[],
    example: "{ address: 10.0.0.11:8080, weight: 1 }",
};

const LIMIT: Shape =
    Shape { what: "a limit", keys: &["high", "low"], later: &[], example: "{ high: 1000, low: 800 }" };

const STATE: Choice<Admin> = Choice {
    what: "a state of a backend",
    words: &[("active", Admin::Active), ("drain", Admin::Drain), ("disabled", Admin::Disabled)],
    instead: &[],
    later: &[],
};

const EXAMPLE: &str = "10.0.0.11:8080";
const DEFAULT_WEIGHT: u16 = 1;
/// As many as the tables of flows can hold.
const MAX_LIMIT: u32 = 1 << 24;
/// Bytes of a QUIC server id.
pub(super) const MAX_ID: u8 = 8;
/// `overflow` looks at them in turn for every new flow.
const MAX_OVERFLOW: usize = 60;

/// What the form of a backend depends on; `None` for what is wrong, and reported already.
pub(super) struct Pool<'a> {
    pub(super) method: Option<ForwardingMethod>,
    pub(super) protocol: Option<Protocol>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) per_packet: bool,
    /// As written, the first one first.
    pub(super) listen: Option<&'a [(Listen, Place)]>,
    pub(super) served: Option<listen::Served>,
    pub(super) quic: Option<Option<Quic>>,
}

/// The backends of all services, to be compared with all listen addresses.
#[derive(Default)]
pub(super) struct Taken(Vec<(Place, Backend, Protocol)>);

impl Taken {
    /// A packet for a backend that is itself a service would come back to the node.
    pub(super) fn refuse_loops(&self, reader: &mut Reader<'_>, listens: &listen::Taken) {
        for (place, backend, protocol) in &self.0 {
            if let Some(line) = listens.line_of(backend.address, backend.port, *protocol) {
                let message = format!(
                    "{} is the listen address of a service, on line {line}; write the address of the server itself",
                    shown(backend.address, backend.port)
                );
                reader.mistake(place, message);
            }
        }
    }
}

/// What is used only once in a service.
#[derive(Default)]
struct Own {
    addresses: Unique<SocketAddr>,
    quic_ids: Unique<Vec<u8>>,
}

pub(super) fn backends(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    pool: &Pool<'_>,
    taken: &mut Taken,
) -> Read<Vec<(Backend, Place)>> {
    let items = reader.list(item, "[10.0.0.11:8080, 10.0.0.12:8080]")?;
    if items.is_empty() {
        let message = "a service needs a backend; write `backends: [10.0.0.11:8080]`, or give its backends weight 0 \
                       to take it out of use";
        return Err(reader.mistake(&item.place(), message));
    }
    if pool.scheduler == Some(Scheduler::Overflow) && items.len() > MAX_OVERFLOW {
        let message = format!(
            "{} backends; `overflow` has at most {MAX_OVERFLOW}, so leave some out or use another scheduler",
            items.len()
        );
        reader.mistake(&item.place(), message);
    }
    let mut own = Own::default();
    let mut left = items.len();
    reader.each(&items, |reader, item| {
        left -= 1;
        let (backend, place) = backend(reader, item, pool, &mut own, left == 0)?;
        if let Some(protocol) = pool.protocol {
            taken.0.push((place.clone(), backend.clone(), protocol));
        }
        Ok((backend, place))
    })
}

/// The backend, and the place of its address.
fn backend(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    pool: &Pool<'_>,
    own: &mut Own,
    last: bool,
) -> Read<(Backend, Place)> {
    if !matches!(item.node.value, Value::Map(_)) {
        let address = address(reader, item, pool, own);
        let complete = complete(reader, item, pool, (false, false), last);
        let (address, port) = address?;
        complete?;
        let backend = Backend {
            address,
            port,
            weight: DEFAULT_WEIGHT,
            limit: None,
            admin: Admin::Active,
            quic_id: None,
        };
        return Ok((backend, item.place()));
    }
    let fields = reader.fields(item, &BACKEND)?;
    let place = fields.get("address").map_or_else(|| item.place(), |item| item.place());
    let address =
        reader.required(&fields, "address", EXAMPLE, |reader, item| address(reader, item, pool, own));
    let weight =
        reader.optional(&fields, "weight", |reader, item| reader.integer(item, "a weight", 0..=u16::MAX));
    let limit = reader.optional(&fields, "limit", |reader, item| limit(reader, item, pool));
    let admin = reader.optional(&fields, "state", |reader, item| reader.choice(item, &STATE));
    let quic_id = reader.optional(&fields, "quic_id", |reader, item| quic_id(reader, item, pool, own));
    let has = |key| fields.get(key).is_some() || fields.mistyped(key);
    let complete = complete(reader, item, pool, (has("limit"), has("quic_id")), last);
    let (address, port) = address?;
    let backend = Backend {
        address,
        port,
        weight: weight?.unwrap_or(DEFAULT_WEIGHT),
        limit: limit?,
        admin: admin?.unwrap_or_default(),
        quic_id: quic_id?,
    };
    complete?;
    Ok((backend, place))
}

/// Whether everything is written that the service asks of its backends: a limit, a QUIC id.
fn complete(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    pool: &Pool<'_>,
    (limit, quic_id): (bool, bool),
    last: bool,
) -> Read<()> {
    let mut result = Ok(());
    if pool.scheduler == Some(Scheduler::Overflow) && !limit && !last {
        let message = "with `overflow` every backend but the last needs a `limit`, beyond which the next one takes over; \
                       write `{ address: 10.0.0.11:8080, limit: 1000 }`";
        result = Err(reader.mistake(&item.place(), message));
    }
    if let Some(Some(Quic { id_length })) = pool.quic
        && !quic_id
    {
        let message = format!(
            "`quic_id` is missing, by which the service's `quic` finds the backend; write `{{ address: 10.0.0.11:443, \
             quic_id: \"{}\" }}`",
            example_id(id_length)
        );
        result = Err(reader.mistake(&item.place(), message));
    }
    result
}

fn address(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    pool: &Pool<'_>,
    own: &mut Own,
) -> Read<(IpAddr, Option<u16>)> {
    let (address, ports) = reader.endpoint(item, EXAMPLE)?;
    let written = match ports.map(|ports| (ports, ports.single())) {
        None => None,
        Some((_, Some(port))) => Some(port),
        Some((ports, None)) => {
            let message = format!(
                "`{ports}` is more than one port; write one, or leave it out for the port that the client wrote"
            );
            return Err(reader.mistake(&item.place(), message));
        }
    };
    let port = port(reader, item, pool, (address, written))?;
    // Without a rewritten port, one server is one backend whatever port is written.
    let rewritten = pool.method.is_none_or(ForwardingMethod::rewrites_port);
    let key = SocketAddr::new(address, port.filter(|_| rewritten).unwrap_or(0));
    own.addresses.claim(reader, &item.place(), key, |line| {
        format!(
            "{} is a backend of this service already, on line {line}; use `weight` to give it more",
            shown(address, port)
        )
    })?;
    Ok((address, port))
}

fn port(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    pool: &Pool<'_>,
    (address, written): (IpAddr, Option<u16>),
) -> Read<Option<u16>> {
    // What is wrong there says nothing of the port here.
    let (Some(method), Some(served)) = (pool.method, &pool.served) else { return Ok(written) };
    let Some(port) = written else {
        let keeps = !method.rewrites_port() || served.has_ranges();
        return match served.only() {
            None if !keeps => {
                Err(reader.no_port(item, address, ", and the service listens on several", 8080))
            }
            only => Ok(only),
        };
    };
    if method.rewrites_port() || served.contains(port) {
        return Ok(written);
    }
    let message = format!(
        "port {port} is not a port of this service; `{}` does not rewrite the port, so leave it out or write {}, or use \
         `forward: nat`",
        method.as_str(),
        served.shown
    );
    Err(reader.mistake(&item.place(), message))
}

fn limit(reader: &mut Reader<'_>, item: &Item<'_>, pool: &Pool<'_>) -> Read<ConnectionLimit> {
    const WHAT: &str = "a number of flows";
    if pool.per_packet {
        let message = "`per_packet` leaves no flows that could be counted; remove the limit, or `per_packet`";
        return Err(reader.mistake(&item.place(), message));
    }
    let Value::Map(_) = item.node.value else {
        let high = reader.integer(item, WHAT, 1..=MAX_LIMIT)?;
        return Ok(ConnectionLimit { high, low: high });
    };
    let fields = reader.fields(item, &LIMIT)?;
    let high =
        reader.required(&fields, "high", "1000", |reader, item| reader.integer(item, WHAT, 1..=MAX_LIMIT));
    let highest = *high.as_ref().unwrap_or(&MAX_LIMIT);
    let low = reader.optional(&fields, "low", |reader, item| {
        reader.integer(item, "a number of flows up to `high`", 1..=highest)
    });
    let (high, low) = (high?, low?);
    Ok(ConnectionLimit { high, low: low.unwrap_or(high) })
}

fn quic_id(reader: &mut Reader<'_>, item: &Item<'_>, pool: &Pool<'_>, own: &mut Own) -> Read<Vec<u8>> {
    let length = match pool.quic {
        None => None,
        Some(Some(Quic { id_length })) => Some(id_length),
        Some(None) => {
            let message = "the service does not route by QUIC connection ids; write `quic: { id_length: 4 }` in it, or \
                           remove the id";
            return Err(reader.mistake(&item.place(), message));
        }
    };
    let example = example_id(length.unwrap_or(4));
    let text = reader.text(item, "a server id", &example)?;
    let id = bytes(text).filter(|id| length.is_none_or(|length| id.len() == usize::from(length)));
    let Some(id) = id else {
        let message = format!(
            "{} is not a server id of {} bytes in hexadecimal; write one such as `\"{example}\"`",
            describe(&item.node.value),
            example.len() / 2
        );
        return Err(reader.mistake(&item.place(), message));
    };
    own.quic_ids.claim(reader, &item.place(), id.clone(), |line| {
        format!("`{text}` is the id of another backend of this service, on line {line}; give each its own")
    })?;
    Ok(id)
}

/// Hexadecimal digits, two for each byte.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !digits || !text.len().is_multiple_of(2) || text.len() > 2 * usize::from(MAX_ID) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn example_id(length: u8) -> String {
    (0..length).map(|byte| format!("{:02x}", byte + 10)).collect()
}

/// As a configuration writes it.
fn shown(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}
