//! `addresses`: what moves between the nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::addresses::{family, is_link_local};
use super::super::reader::{Fields, Item, Read, Reader, Shape};
use super::super::suggest;
use super::super::values::Choice;
use super::{Known, Taken};
use crate::config::model::{Prefix, Scope, Version, VirtualAddress};
use crate::config::yaml::{Node, Value};

const ADDRESS: Shape = Shape {
    what: "a virtual address",
    keys: &["address", "interface", "label", "scope"],
    later: &[],
    example: "{ address: 203.0.113.10/24, label: \"eth0:web\" }",
};

const SCOPE: Choice<Scope> = Choice {
    what: "a scope",
    words: &[("global", Scope::Global), ("site", Scope::Site), ("link", Scope::Link), ("host", Scope::Host)],
    instead: &[("universe", "global")],
    later: &[],
};

const LIST: &str = "[203.0.113.10/24]";
/// RFC 9568 section 5.2.5: the count of addresses is one byte.
const MAX_OF_FAMILY: usize = 255;
/// `IFNAMSIZ` of Linux, without the NUL.
const MAX_LABEL: usize = 15;

/// Families of the addresses as they are written, whatever else is wrong with them.
pub(super) fn families(fields: &Fields<'_>) -> BTreeSet<&'static str> {
    let Some(Item { node: Node { value: Value::List(items), .. }, .. }) = fields.get("addresses") else {
        return BTreeSet::new();
    };
    items.iter().filter_map(written_address).map(family).collect()
}

fn written_address(node: &Node) -> Option<IpAddr> {
    let text = match &node.value {
        Value::Text(text) => text,
        Value::Map(entries) => entries.iter().find_map(|(key, value)| match (&key.value, &value.value) {
            (Value::Text(key), Value::Text(text)) if key == "address" => Some(text),
            _ => None,
        })?,
        _ => return None,
    };
    text.split('/').next()?.parse().ok()
}

pub(super) fn addresses(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    known: &Known,
    taken: &mut Taken,
) -> Read<Vec<VirtualAddress>> {
    let items = reader.list(item, LIST)?;
    if items.is_empty() || items.len() > 2 * MAX_OF_FAMILY {
        let message = format!(
            "{} addresses; an instance has 1 to {MAX_OF_FAMILY} of each family, such as `{LIST}`",
            items.len()
        );
        return Err(reader.mistake(&item.place(), message));
    }
    let addresses = reader.each(&items, |reader, item| {
        let address = virtual_address(reader, item, known)?;
        claim(reader, item, known, taken, &address)?;
        Ok(address)
    })?;
    for (family, count) in [
        ("IPv4", addresses.iter().filter(|address| address.prefix.address.is_ipv4()).count()),
        ("IPv6", addresses.iter().filter(|address| address.prefix.address.is_ipv6()).count()),
    ] {
        if count > MAX_OF_FAMILY {
            let message = format!(
                "{count} {family} addresses; an advertisement has room for {MAX_OF_FAMILY}, so give the others to another \
                 instance of the same `group`"
            );
            return Err(reader.mistake(&item.place(), message));
        }
    }
    Ok(addresses)
}

fn claim(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    known: &Known,
    taken: &mut Taken,
    VirtualAddress { prefix: Prefix { address, .. }, interface, .. }: &VirtualAddress,
) -> Read<()> {
    let link =
        if is_link_local(*address) { interface.clone().or_else(|| known.interface.clone()) } else { None };
    taken.addresses.claim(reader, &item.place(), (*address, link), |line| {
        format!("{address} is a virtual address already, on line {line}; remove one of the two")
    })
}

fn virtual_address(reader: &mut Reader<'_>, item: &Item<'_>, known: &Known) -> Read<VirtualAddress> {
    if !matches!(item.node.value, Value::Map(_)) {
        return Ok(of_version(reader, item, known.version)?.into());
    }
    let fields = reader.fields(item, &ADDRESS)?;
    let prefix = reader.required(&fields, "address", "203.0.113.10/24", |reader, item| {
        of_version(reader, item, known.version)
    });
    let interface = reader.optional(&fields, "interface", Reader::interface);
    let on = match &interface {
        Ok(interface) => interface.as_ref().or(known.interface.as_ref()),
        Err(_) => None,
    };
    let ipv6 = prefix.as_ref().is_ok_and(|prefix| prefix.address.is_ipv6());
    let label = reader.optional(&fields, "label", |reader, item| {
        if ipv6 {
            let message = "an IPv6 address has no label; remove `label`";
            return Err(reader.mistake(&item.place(), message));
        }
        label(reader, item, on)
    });
    let scope = reader.optional(&fields, "scope", |reader, item| {
        let scope = reader.choice(item, &SCOPE)?;
        if ipv6 {
            let message = "an IPv6 address has the scope of its prefix; remove `scope`";
            return Err(reader.mistake(&item.place(), message));
        }
        Ok(scope)
    });
    let interface = interface?.filter(|interface| known.interface.as_ref() != Some(interface));
    Ok(VirtualAddress { prefix: prefix?, interface, label: label?, scope: scope?.unwrap_or_default() })
}

/// RFC 3768 has no IPv6.
fn of_version(reader: &mut Reader<'_>, item: &Item<'_>, version: Option<Version>) -> Read<Prefix> {
    let prefix = reader.prefix(item)?;
    if version != Some(Version::V2) || prefix.address.is_ipv4() {
        return Ok(prefix);
    }
    let message = format!(
        "{} is IPv6, which version 2 does not have; use `version: 3`, or remove the address",
        prefix.address
    );
    Err(reader.mistake(&item.place(), message))
}

/// What `ifconfig` takes for an interface of its own. `interface` is `None` when it is wrong.
fn label(reader: &mut Reader<'_>, item: &Item<'_>, interface: Option<&String>) -> Read<String> {
    let label = reader.text(item, "a label", "eth0:web")?;
    let interface = interface.map_or("eth0", String::as_str);
    let end = label.strip_prefix(interface).and_then(|rest| rest.strip_prefix(':'));
    let valid = label.len() <= MAX_LABEL
        && end.is_some_and(|end| !end.is_empty() && end.bytes().all(|b| b.is_ascii_graphic()));
    if valid {
        return Ok(label.to_owned());
    }
    let message = format!(
        "`{}` is not a label; write the interface, a `:` and more, together at most {MAX_LABEL} characters, such as \
         `\"{}:web\"`",
        suggest::shorten(label),
        suggest::shorten(interface)
    );
    Err(reader.mistake(&item.place(), message))
}
