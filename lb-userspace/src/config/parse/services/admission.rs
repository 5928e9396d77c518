//! Who is served, and how much: `limits`, `allow` and `deny`.

use std::ops::RangeInclusive;

use super::Fields;
use crate::config::model::{Limits, Prefix, Rate};
use crate::config::parse::reader::{Item, Read, Reader, Shape, Unique};
use crate::config::yaml::Value;

const LIMITS: Shape = Shape {
    what: "limits",
    keys: &["new_flows", "new_flows_per_source"],
    later: &[],
    example: "{ new_flows: 10000, new_flows_per_source: 100 }",
};

const RATE: Shape = Shape {
    what: "a rate",
    keys: &["per_second", "burst"],
    later: &[],
    example: "{ per_second: 100, burst: 300 }",
};

const FLOWS: RangeInclusive<u32> = 1..=10_000_000;
const MAX_PREFIXES: usize = 1024;

pub(super) struct Admission {
    pub(super) limits: Limits,
    pub(super) allow: Vec<Prefix>,
    pub(super) deny: Vec<Prefix>,
}

pub(super) fn admission(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Read<Admission> {
    let limits = reader.optional(fields, "limits", limits);
    let mut allowed = Unique::default();
    let allow = reader.optional(fields, "allow", |reader, item| {
        if matches!(&item.node.value, Value::List(items) if items.is_empty()) {
            let message = "the list is empty, which would serve nobody; leave it out to serve everybody, or write \
                           prefixes such as `[10.0.0.0/8]`";
            return Err(reader.mistake(&item.place(), message));
        }
        prefixes(reader, item, &mut allowed, None)
    });
    let deny = reader.optional(fields, "deny", |reader, item| {
        prefixes(reader, item, &mut Unique::default(), Some(&allowed))
    });
    Ok(Admission {
        limits: limits?.unwrap_or_default(),
        allow: allow?.unwrap_or_default(),
        deny: deny?.unwrap_or_default(),
    })
}

fn limits(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Limits> {
    let fields = reader.fields(item, &LIMITS)?;
    let new_flows = reader.optional(&fields, "new_flows", rate);
    let new_flows_per_source = reader.optional(&fields, "new_flows_per_source", rate);
    Ok(Limits { new_flows: new_flows?, new_flows_per_source: new_flows_per_source? })
}

fn rate(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Rate> {
    let Value::Map(_) = item.node.value else {
        let per_second = reader.integer(item, "a number of new flows a second", FLOWS)?;
        return Ok(Rate { per_second, burst: per_second });
    };
    let fields = reader.fields(item, &RATE)?;
    let per_second = reader.required(&fields, "per_second", "100", |reader, item| {
        reader.integer(item, "a number of new flows a second", FLOWS)
    });
    let burst = reader
        .optional(&fields, "burst", |reader, item| reader.integer(item, "a number of new flows", FLOWS));
    let (per_second, burst) = (per_second?, burst?);
    Ok(Rate { per_second, burst: burst.unwrap_or(per_second) })
}

/// Prefixes that are neither in `own` yet nor `allowed`, which is for `deny` alone.
fn prefixes(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    own: &mut Unique<Prefix>,
    allowed: Option<&Unique<Prefix>>,
) -> Read<Vec<Prefix>> {
    let items = item.one_or_more();
    if items.len() > MAX_PREFIXES {
        let message = format!(
            "{} prefixes; a list has at most {MAX_PREFIXES}, so join neighbours into shorter prefixes",
            items.len()
        );
        return Err(reader.mistake(&item.place(), message));
    }
    reader.each(&items, |reader, item| {
        let prefix = reader.network(item, "10.0.0.0/8")?;
        own.claim(reader, &item.place(), prefix, |line| {
            format!("{prefix} is in the list already, on line {line}; remove one of the two")
        })?;
        if let Some(line) = allowed.and_then(|allowed| allowed.line_of(&prefix)) {
            let message = format!("{prefix} is in `allow` too, on line {line}; remove one of the two");
            return Err(reader.mistake(&item.place(), message));
        }
        Ok(prefix)
    })
}
