//! `services`: what clients connect to, and its backends.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::reader::{Item, Place, Read, Reader, Shape, Unique};
use super::values::Choice;
use super::{check, suggest};
use crate::config::model::{
    Admin, Backend, Forward, ForwardingMethod, Limits, Listen, OnDown, Ports, Protocol, Scheduler, Service,
    Tunnel,
};
use crate::config::yaml::Value;

const SERVICE: Shape = Shape {
    what: "a service",
    keys: &["name", "listen", "protocol", "forward", "scheduler", "check", "backends"],
    later: &[],
    example: "{ name: web, listen: [203.0.113.10:80], forward: nat, backends: [10.0.0.11:8080] }",
};
const LIST: &str = "[{ name: web, listen: [203.0.113.10:80], forward: nat, backends: [10.0.0.11:8080] }]";

const BACKEND: Shape = Shape {
    what: "a backend",
    keys: &["address", "weight"],
    later: &[],
    example: "{ address: 10.0.0.11:8080, weight: 1 }",
};

const PROTOCOL: Choice<Protocol> =
    Choice { what: "a protocol", words: &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)], later: &["sctp"] };

const FORWARD: Choice<ForwardingMethod> = Choice {
    what: "a forwarding method",
    words: &[
        ("nat", ForwardingMethod::Nat),
        ("tunnel", ForwardingMethod::Tunnel),
        ("direct", ForwardingMethod::Direct),
    ],
    later: &["fullnat"],
};

const SCHEDULER: Choice<Scheduler> = Choice {
    what: "a scheduler",
    words: &[("maglev", Scheduler::Maglev)],
    later: &[
        "least-conn",
        "round-robin",
        "weighted-round-robin",
        "weighted",
        "lc",
        "wlc",
        "rr",
        "wrr",
        "sh",
        "mh",
    ],
};

const DEFAULT_WEIGHT: u16 = 1;

/// What may be used only once, and what backends are compared with at the end.
#[derive(Default)]
struct Taken {
    names: Unique<String>,
    listens: Unique<(SocketAddr, Protocol)>,
    backends: Vec<(Place, SocketAddr, Protocol)>,
}

/// What the form of a backend depends on; `None` for what is wrong, and reported already.
struct Pool<'a> {
    forward: Option<ForwardingMethod>,
    protocol: Option<Protocol>,
    /// As written, the first one first; empty when all of them are wrong.
    listen: &'a [SocketAddr],
}

pub(super) fn services(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Vec<Service>> {
    let items = reader.list(item, LIST)?;
    let mut taken = Taken::default();
    let services = reader.each(&items, |reader, item| service(reader, item, &mut taken));
    refuse_loops(reader, &taken);
    services
}

fn service(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut Taken) -> Read<Service> {
    let fields = reader.fields(item, &SERVICE)?;
    let name = reader.required(&fields, "name", "web", |reader, item| {
        let name = reader.name(item)?;
        taken.names.claim(reader, &item.place(), name.clone(), |line| {
            format!("the service on line {line} is called `{name}` too; give each a name of its own")
        })?;
        Ok(name)
    });
    let protocol = reader
        .optional(&fields, "protocol", |reader, item| reader.choice(item, &PROTOCOL))
        .map(Option::unwrap_or_default);
    // What a slip was meant to be serves to find what else is wrong.
    let known_protocol = protocol.as_ref().ok().copied().or_else(|| PROTOCOL.meant(&fields.get("protocol")?));
    let forward = reader.required(&fields, "forward", "nat", |reader, item| reader.choice(item, &FORWARD));
    let scheduler = reader.optional(&fields, "scheduler", |reader, item| reader.choice(item, &SCHEDULER));
    let listen = reader.required(&fields, "listen", "[203.0.113.10:80]", |reader, item| {
        listen(reader, item, known_protocol, taken)
    });
    let check = reader.optional(&fields, "check", check::check);
    let backends = reader.required(&fields, "backends", "[10.0.0.11:8080]", |reader, item| {
        let pool = Pool {
            forward: forward.as_ref().ok().copied(),
            protocol: known_protocol,
            listen: listen.as_ref().map_or(&[], Vec::as_slice),
        };
        backends(reader, item, &pool, taken)
    });
    Ok(Service {
        name: name?,
        listen: listen?
            .into_iter()
            .map(|l| Listen { address: l.ip(), ports: Ports::one(l.port()) })
            .collect(),
        protocol: protocol?,
        forward: match forward? {
            ForwardingMethod::Direct => Forward::Direct,
            ForwardingMethod::Tunnel => Forward::Tunnel(Tunnel::default()),
            _ => Forward::Nat,
        },
        per_packet: false,
        down: OnDown::Reset,
        drain: None,
        persistence: None,
        limits: Limits::default(),
        allow: Vec::new(),
        deny: Vec::new(),
        mss: None,
        quic: None,
        scheduler: scheduler?.unwrap_or_default(),
        check: check?,
        backends: backends?,
    })
}

/// `protocol` is `None` when it is wrong; then nothing is known of other services.
fn listen(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    protocol: Option<Protocol>,
    taken: &mut Taken,
) -> Read<Vec<SocketAddr>> {
    const EXAMPLE: &str = "203.0.113.10:80";
    let items = item.one_or_more();
    if items.is_empty() {
        let message = format!("a service listens somewhere; write `listen: [{EXAMPLE}]`");
        return Err(reader.mistake(&item.place(), message));
    }
    let mut own = Unique::default();
    reader.each(&items, |reader, item| {
        let (address, port) = reader.endpoint(item, EXAMPLE)?;
        let Some(port) = port else {
            let message = format!("`{address}` has no port; write address and port, such as `{address}:80`");
            return Err(reader.mistake(&item.place(), message));
        };
        let socket = SocketAddr::from((address, port));
        let twice = |line| {
            format!("{socket} is a listen address already, on line {line}; write it once, for one service")
        };
        match protocol {
            Some(protocol) => taken.listens.claim(reader, &item.place(), (socket, protocol), twice)?,
            None => own.claim(reader, &item.place(), socket, twice)?,
        }
        Ok(socket)
    })
}

fn backends(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    pool: &Pool<'_>,
    taken: &mut Taken,
) -> Read<Vec<Backend>> {
    let items = reader.list(item, "[10.0.0.11:8080, 10.0.0.12:8080]")?;
    if items.is_empty() {
        let message = "a service needs a backend; write `backends: [10.0.0.11:8080]`, or give its backends weight 0 \
                       to take it out of use";
        return Err(reader.mistake(&item.place(), message));
    }
    let mut addresses = Unique::default();
    reader.each(&items, |reader, item| {
        let (weight, address, place) = match item.node.value {
            Value::Map(_) => {
                let fields = reader.fields(item, &BACKEND)?;
                let weight = reader.optional(&fields, "weight", |reader, item| {
                    reader.integer(item, "a weight", 0..=u16::MAX)
                });
                let address = reader.required(&fields, "address", "10.0.0.11:8080", |reader, item| {
                    backend_address(reader, item, pool)
                });
                let place = fields.get("address").map_or_else(|| item.place(), |item| item.place());
                (weight, address, place)
            }
            _ => (Ok(None), backend_address(reader, item, pool), item.place()),
        };
        if let Ok(address) = &address {
            let address = *address;
            // Without a rewritten port, one server is one backend whatever port is written.
            let key = SocketAddr::new(address.ip(), if pool.rewrites_port() { address.port() } else { 0 });
            addresses.claim(reader, &place, key, |line| {
                format!("{address} is a backend of this service already, on line {line}; use `weight` to give it more")
            })?;
            if let Some(protocol) = pool.protocol {
                taken.backends.push((place, address, protocol));
            }
        }
        let address = address?;
        Ok(Backend { weight: weight?.unwrap_or(DEFAULT_WEIGHT), address: address.ip(), port: Some(address.port()), limit: None, admin: Admin::Active, quic_id: None })
    })
}

fn backend_address(reader: &mut Reader<'_>, item: &Item<'_>, pool: &Pool<'_>) -> Read<SocketAddr> {
    let (address, port) = reader.endpoint(item, "10.0.0.11:8080")?;
    let method = match pool.forward {
        Some(ForwardingMethod::Nat | ForwardingMethod::FullNat) => {
            let Some(port) = port else {
                let message =
                    format!("`{address}` has no port; write address and port, such as `{address}:8080`");
                return Err(reader.mistake(&item.place(), message));
            };
            return Ok(SocketAddr::from((address, port)));
        }
        Some(ForwardingMethod::Tunnel) => "tunnel",
        Some(ForwardingMethod::Direct) => "direct",
        // Nothing can be said of the port; any stands for it.
        None => return Ok(SocketAddr::from((address, port.unwrap_or(1)))),
    };
    // These deliver the packet to the port that the client wrote.
    let ports: BTreeSet<u16> = pool.listen.iter().map(SocketAddr::port).collect();
    let first = pool.listen.first().map(SocketAddr::port);
    let port = port.or(first).unwrap_or(1);
    if ports.is_empty() || ports.contains(&port) {
        return Ok(SocketAddr::from((address, port)));
    }
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let message = format!(
        "port {port} is not a port of this service; `{method}` does not rewrite the port, so leave it out or write \
         {}, or use `forward: nat`",
        suggest::any_of(&ports)
    );
    Err(reader.mistake(&item.place(), message))
}

/// A packet for a backend that is itself a service would come back to the node.
fn refuse_loops(reader: &mut Reader<'_>, taken: &Taken) {
    for (place, address, protocol) in &taken.backends {
        if let Some(line) = taken.listens.line_of(&(*address, *protocol)) {
            let message = format!(
                "{address} is the listen address of a service, on line {line}; write the address of the server itself"
            );
            reader.mistake(place, message);
        }
    }
}

impl Pool<'_> {
    fn rewrites_port(&self) -> bool {
        self.forward.is_none_or(|method| method == ForwardingMethod::Nat)
    }
}
