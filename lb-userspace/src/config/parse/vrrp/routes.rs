//! `routes` and `rules`: what the master has besides addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::super::addresses::{family, is_link_local};
use super::super::reader::{Fields, Item, Read, Reader, Shape, Unique, describe};
use crate::config::model::{Prefix, Route, Rule};
use crate::config::yaml::Value;

const ROUTE: Shape = Shape {
    what: "a route",
    keys: &["to", "via", "interface", "source", "metric", "table"],
    later: &[],
    example: "{ to: 10.0.0.0/8, via: 192.0.2.254 }",
};

const RULE: Shape = Shape {
    what: "a rule",
    keys: &["from", "to", "table", "priority"],
    later: &[],
    example: "{ from: 203.0.113.10, table: 100 }",
};

const ROUTES: &str = "[{ to: 10.0.0.0/8, via: 192.0.2.254 }]";
const RULES: &str = "[{ from: 203.0.113.10, table: 100 }]";
const TO: &str = "10.0.0.0/8";
const MAX: usize = 1024;
/// `RT_TABLE_MAIN` of `linux/rtnetlink.h`.
const MAIN_TABLE: u32 = 254;
/// Before the main table (32766), after the local one (0): ip-rule(8).
const PRIORITIES: RangeInclusive<u32> = 1..=32765;
const DEFAULT_PRIORITY: u32 = 1000;

/// The kernel keeps one route of a prefix, table and metric.
pub(super) type TakenRoutes = Unique<(Prefix, u32, Option<u32>)>;
pub(super) type TakenRules = Unique<Rule>;

pub(super) fn routes(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut TakenRoutes) -> Read<Vec<Route>> {
    let items = bounded(reader, item, "routes", ROUTES)?;
    reader.each(&items, |reader, item| {
        let route = route(reader, item)?;
        taken.claim(reader, &item.place(), (route.to, route.table, route.metric), |line| {
            format!(
                "there is a route to {} in this table already, on line {line}; remove one of the two, or give them a \
                 `metric` each",
                route.to
            )
        })?;
        Ok(route)
    })
}

pub(super) fn rules(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut TakenRules) -> Read<Vec<Rule>> {
    let items = bounded(reader, item, "rules", RULES)?;
    reader.each(&items, |reader, item| {
        let rule = rule(reader, item)?;
        taken.claim(reader, &item.place(), rule.clone(), |line| {
            format!("this rule is there already, on line {line}; remove one of the two")
        })?;
        Ok(rule)
    })
}

fn bounded<'a>(reader: &mut Reader<'_>, item: &Item<'a>, what: &str, example: &str) -> Read<Vec<Item<'a>>> {
    let items = reader.list(item, example)?;
    if items.len() <= MAX {
        return Ok(items);
    }
    let message = format!("{} {what}; an instance has at most {MAX}", items.len());
    Err(reader.mistake(&item.place(), message))
}

fn route(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Route> {
    let fields = reader.fields(item, &ROUTE)?;
    let via = reader.optional(&fields, "via", |reader, item| reader.neighbour(item, "192.0.2.254"));
    let interface = reader.optional(&fields, "interface", Reader::interface);
    let source = reader.optional(&fields, "source", |reader, item| reader.neighbour(item, "203.0.113.10"));
    let metric =
        reader.optional(&fields, "metric", |reader, item| reader.integer(item, "a metric", 1..=u32::MAX));
    let table = reader.optional(&fields, "table", table);
    let hint = via.as_ref().ok().copied().flatten().or_else(|| source.as_ref().ok().copied().flatten());
    let to = reader.required(&fields, "to", TO, |reader, item| destination(reader, item, hint));
    let (to, via, source) = (to?, via?, source?);
    for (key, address) in [("via", via), ("source", source)] {
        let Some(address) = address else { continue };
        same_family(reader, &fields, key, address, ("the route", to.address))?;
    }
    let interface = interface?;
    leaves_somewhere(reader, &fields, via, interface.as_ref())?;
    Ok(Route { to, via, interface, source, metric: metric?, table: table?.unwrap_or(MAIN_TABLE) })
}

/// `hint` is an address of the route's family.
fn destination(reader: &mut Reader<'_>, item: &Item<'_>, hint: Option<IpAddr>) -> Read<Prefix> {
    if !matches!(&item.node.value, Value::Text(text) if text == "default") {
        return reader.network(item, TO);
    }
    match hint {
        Some(IpAddr::V4(_)) => Ok(Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 }),
        Some(IpAddr::V6(_)) => Ok(Prefix { address: Ipv6Addr::UNSPECIFIED.into(), length: 0 }),
        None => {
            let message = "`default` without `via` is of either family; write `0.0.0.0/0` or `\"::/0\"`";
            Err(reader.mistake(&item.place(), message))
        }
    }
}

fn leaves_somewhere(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    via: Option<IpAddr>,
    interface: Option<&String>,
) -> Read<()> {
    let message = match (via, interface) {
        (None, None) => "the route leads nowhere; add `via`, the next router, or `interface`".to_owned(),
        (Some(via), None) if is_link_local(via) => {
            format!("{via} is a link-local address, which is another host on every link; add `interface`")
        }
        _ => return Ok(()),
    };
    Err(reader.mistake(&fields.at, message))
}

fn rule(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Rule> {
    let fields = reader.fields(item, &RULE)?;
    let from = reader.optional(&fields, "from", |reader, item| reader.network(item, "203.0.113.10"));
    let to = reader.optional(&fields, "to", |reader, item| reader.network(item, TO));
    let table = reader.required(&fields, "table", "100", table);
    let priority = reader.optional(&fields, "priority", |reader, item| {
        reader.integer(item, "a priority of a rule", PRIORITIES)
    });
    let (from, to) = (from?, to?);
    match (from, to) {
        (Some(from), Some(to)) => same_family(reader, &fields, "to", to.address, ("`from`", from.address))?,
        (None, None) => {
            return Err(fields.refused().unwrap_or_else(|| {
                let message = "the rule is for every packet; add `from` or `to`";
                reader.mistake(&fields.at, message)
            }));
        }
        _ => {}
    }
    Ok(Rule { from, to, table: table?, priority: priority?.unwrap_or(DEFAULT_PRIORITY) })
}

fn same_family(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    key: &str,
    address: IpAddr,
    (what, other): (&str, IpAddr),
) -> Read<()> {
    if address.is_ipv4() == other.is_ipv4() {
        return Ok(());
    }
    let place = fields.get(key).map_or_else(|| fields.at.clone(), |item| item.place());
    let message = format!(
        "{address} is {}, and {what} is {}; write both of one family",
        family(address),
        family(other)
    );
    Err(reader.mistake(&place, message))
}

/// A number, or the name that every system has for one.
fn table(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<u32> {
    if matches!(&item.node.value, Value::Text(text) if text == "main") {
        return Ok(MAIN_TABLE);
    }
    if let Value::Integer(number, _) = &item.node.value
        && let Ok(number) = u32::try_from(*number)
        && number != 0
    {
        return Ok(number);
    }
    let message = format!(
        "{} is not a routing table; write a whole number from 1 to {}, or `main`",
        describe(&item.node.value),
        u32::MAX
    );
    Err(reader.mistake(&item.place(), message))
}
