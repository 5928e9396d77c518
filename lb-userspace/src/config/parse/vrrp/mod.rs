//! `vrrp`: the instances.

mod addresses;
mod authentication;
mod election;
mod groups;
mod routes;
mod track;
mod unicast;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Fields, Item, Place, Read, Reader, Shape, Unique};
use super::values::Choice;
use crate::config::model::{
    Authentication, Checksum, Instance, Priority, Route, Rule, Unicast, Version, Vrid,
};
use crate::config::yaml::Value;

const INSTANCE: Shape = Shape {
    what: "a VRRP instance",
    keys: &[
        "name",
        "interface",
        "vrid",
        "addresses",
        "priority",
        "preempt",
        "advertise",
        "group",
        "track",
        "virtual_mac",
        "accept",
        "version",
        "unicast",
        "authentication",
        "checksum",
        "announce_every",
        "routes",
        "rules",
    ],
    later: &[],
    example: "{ name: outside, interface: eth0, vrid: 51, addresses: [203.0.113.10/24] }",
};
const LIST: &str = "[{ name: outside, interface: eth0, vrid: 51, addresses: [203.0.113.10/24] }]";

const CHECKSUM: Choice<Checksum> = Choice {
    what: "a form of the checksum",
    words: &[
        ("auto", Checksum::Auto),
        ("rfc9568", Checksum::Message),
        ("pseudo-header", Checksum::PseudoHeader),
    ],
    instead: &[("rfc5798", "pseudo-header"), ("pseudo_header", "pseudo-header")],
    later: &[],
};

const ANNOUNCE_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// What may be used only once in the file, and what is compared with all instances at the end.
#[derive(Default)]
struct Taken {
    names: Unique<String>,
    vrids: Unique<(String, Vrid, &'static str)>,
    /// A link-local address is another one on every interface.
    addresses: Unique<(IpAddr, Option<String>)>,
    routes: routes::TakenRoutes,
    rules: routes::TakenRules,
    groups: groups::Groups,
    /// Addresses of this node and its peers, which no instance moves.
    fixed: Vec<(Place, IpAddr, Option<String>)>,
}

/// What of an instance its other keys depend on, as far as it could be read.
struct Known {
    version: Option<Version>,
    priority: Option<Priority>,
    /// As written: two instances collide on it whether this host has it or not.
    interface: Option<String>,
    /// `IPv4`, `IPv6`: of the virtual addresses.
    families: BTreeSet<&'static str>,
}

/// Names of the services, and how many backends each has.
type Pools<'a> = BTreeMap<&'a str, usize>;

pub(super) fn instances(reader: &mut Reader<'_>, item: &Item<'_>, pools: &Pools<'_>) -> Read<Vec<Instance>> {
    let items = reader.list(item, LIST)?;
    let mut taken = Taken::default();
    let instances = reader.each(&items, |reader, item| instance(reader, item, &mut taken, pools));
    for (place, address, interface) in std::mem::take(&mut taken.fixed) {
        if let Some(line) = taken.addresses.line_of(&(address, interface)) {
            let message = format!(
                "{address} is a virtual address, on line {line}, and may be on either node; write an address that stays \
                 on one"
            );
            reader.mistake(&place, message);
        }
    }
    instances
}

fn instance(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    taken: &mut Taken,
    pools: &Pools<'_>,
) -> Read<Instance> {
    let fields = reader.fields(item, &INSTANCE)?;
    let version = reader.optional(&fields, "version", election::version);
    let priority = reader.optional(&fields, "priority", election::priority);
    let known = Known {
        version: version.as_ref().ok().map(|version| version.unwrap_or_default()),
        priority: priority.as_ref().ok().map(|priority| priority.unwrap_or(Priority::DEFAULT)),
        interface: fields.get("interface").and_then(|item| match &item.node.value {
            Value::Text(name) => Some(name.clone()),
            _ => None,
        }),
        families: addresses::families(&fields),
    };
    let named = named(reader, &fields, &known, taken);
    let addresses = reader.required(&fields, "addresses", "[203.0.113.10/24]", |reader, item| {
        addresses::addresses(reader, item, &known, taken)
    });
    let moved = moved(reader, &fields, taken);
    let on_the_wire = on_the_wire(reader, &fields, &known, taken);
    let preempt =
        reader.optional(&fields, "preempt", |reader, item| election::preempt(reader, item, known.priority));
    let accept = reader.optional(&fields, "accept", |reader, item| accept(reader, item, &known));
    let virtual_mac = reader.optional(&fields, "virtual_mac", Reader::boolean);
    let track = reader.optional(&fields, "track", |reader, item| track::track(reader, item, &known, pools));
    let group = groups::group(reader, &fields, taken, known.priority, preempt.as_ref().ok().copied());
    let (named, on_the_wire, (routes, rules)) = (named?, on_the_wire?, moved?);
    Ok(Instance {
        version: version?.unwrap_or_default(),
        priority: priority?.unwrap_or(Priority::DEFAULT),
        preempt: preempt?.unwrap_or(named.preempt),
        accept: accept?.unwrap_or(named.accept),
        virtual_mac: virtual_mac?.unwrap_or(named.virtual_mac),
        advertise: on_the_wire.advertise,
        checksum: on_the_wire.checksum,
        unicast: on_the_wire.unicast,
        authentication: on_the_wire.authentication,
        announce_every: on_the_wire.announce_every,
        addresses: addresses?,
        routes,
        rules,
        track: track?.unwrap_or_default(),
        group: group?,
        ..named
    })
}

/// The instance with what tells it from others, and defaults.
fn named(reader: &mut Reader<'_>, fields: &Fields<'_>, known: &Known, taken: &mut Taken) -> Read<Instance> {
    let name = reader.required(fields, "name", "outside", |reader, item| {
        let name = reader.name(item)?;
        taken.names.claim(reader, &item.place(), name.clone(), |line| {
            format!("the instance on line {line} is called `{name}` too; give each a name of its own")
        })?;
        Ok(name)
    });
    let interface = reader.required(fields, "interface", "eth0", Reader::interface);
    let vrid = reader.required(fields, "vrid", "51", |reader, item| vrid(reader, item, known, taken));
    Ok(Instance::new(&name?, &interface?, vrid?))
}

/// Virtual routers of one VRID on one link are told apart by family alone (RFC 9568 section 1.6).
fn vrid(reader: &mut Reader<'_>, item: &Item<'_>, known: &Known, taken: &mut Taken) -> Read<Vrid> {
    let number: u8 = reader.integer(item, "a VRID", 1..=u8::MAX)?;
    let vrid = Vrid::new(number).expect("the range begins at 1");
    let Some(interface) = &known.interface else { return Ok(vrid) };
    for family in &known.families {
        taken.vrids.claim(reader, &item.place(), (interface.clone(), vrid, *family), |line| {
            format!(
                "{number} is the VRID of another instance with {family} addresses on {interface}, on line {line}; write \
                 another from 1 to 255"
            )
        })?;
    }
    Ok(vrid)
}

/// Routes and rules.
fn moved(reader: &mut Reader<'_>, fields: &Fields<'_>, taken: &mut Taken) -> Read<(Vec<Route>, Vec<Rule>)> {
    let routes =
        reader.optional(fields, "routes", |reader, item| routes::routes(reader, item, &mut taken.routes));
    let rules =
        reader.optional(fields, "rules", |reader, item| routes::rules(reader, item, &mut taken.rules));
    Ok((routes?.unwrap_or_default(), rules?.unwrap_or_default()))
}

/// How the instance's packets look, and where they go.
struct OnTheWire {
    advertise: Duration,
    checksum: Checksum,
    unicast: Option<Unicast>,
    authentication: Option<Authentication>,
    announce_every: Option<Duration>,
}

fn on_the_wire(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    known: &Known,
    taken: &mut Taken,
) -> Read<OnTheWire> {
    let advertise =
        reader.optional(fields, "advertise", |reader, item| election::advertise(reader, item, known.version));
    let checksum = reader.optional(fields, "checksum", |reader, item| checksum(reader, item, known));
    let unicast = reader
        .optional(fields, "unicast", |reader, item| unicast::unicast(reader, item, known, &mut taken.fixed));
    let authentication = reader.optional(fields, "authentication", |reader, item| {
        authentication::authentication(reader, item, known.version)
    });
    let announce_every = reader
        .optional(fields, "announce_every", |reader, item| reader.duration(item, ANNOUNCE_EVERY, "60s"));
    Ok(OnTheWire {
        advertise: advertise?.unwrap_or(election::DEFAULT_ADVERTISE),
        checksum: checksum?.unwrap_or_default(),
        unicast: unicast?,
        authentication: authentication?,
        announce_every: announce_every?,
    })
}

fn checksum(reader: &mut Reader<'_>, item: &Item<'_>, known: &Known) -> Read<Checksum> {
    let checksum = reader.choice(item, &CHECKSUM)?;
    let message = if known.version == Some(Version::V2) {
        "version 2 has one form of the checksum; remove `checksum`"
    } else if !known.families.is_empty() && !known.families.contains("IPv4") {
        "the checksum over IPv6 has one form; remove `checksum`, or add an IPv4 address"
    } else {
        return Ok(checksum);
    };
    Err(reader.mistake(&item.place(), message))
}

/// RFC 9568 section 6.1: an owner accepts always.
fn accept(reader: &mut Reader<'_>, item: &Item<'_>, known: &Known) -> Read<bool> {
    let accept = reader.boolean(item)?;
    if accept || known.priority != Some(Priority::OWNER) {
        return Ok(accept);
    }
    let message = "a node of priority 255 owns the addresses and accepts what is sent to them; remove `accept`, or write \
                   a priority up to 254";
    Err(reader.mistake(&item.place(), message))
}
