//! `track`: what the priority depends on.

use std::ops::RangeInclusive;

use super::super::pace::Pace;
use super::super::reader::{Fields, Item, Read, Reader, Shape, Unique, describe};
use super::super::suggest;
use super::{Known, Pools};
use crate::config::model::{Effect, Priority, Script, Subject, Track};
use crate::config::yaml::Value;

const TRACK: Shape = Shape {
    what: "a tracked thing",
    keys: &[
        "interface",
        "script",
        "file",
        "process",
        "gateway",
        "service",
        "weight",
        "every",
        "timeout",
        "rise",
        "fall",
        "user",
        "min_backends",
    ],
    later: &[],
    example: "{ interface: eth1 }",
};

const SUBJECTS: [&str; 6] = ["interface", "script", "file", "process", "gateway", "service"];
/// Keys that belong to one subject.
const SETTINGS: [(&str, &str); 6] = [
    ("every", "script"),
    ("timeout", "script"),
    ("rise", "script"),
    ("fall", "script"),
    ("user", "script"),
    ("min_backends", "service"),
];

const LIST: &str = "[{ interface: eth1 }]";
const PROGRAM: &str = "/etc/evenkeel/check";
const MAX: usize = 64;
/// `IFNAMSIZ` and `TASK_COMM_LEN` of Linux, without the NUL.
const MAX_KERNEL_NAME: usize = 15;
/// From 254 to 1.
const WEIGHTS: RangeInclusive<i16> = -253..=253;

pub(super) fn track(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    known: &Known,
    pools: &Pools<'_>,
) -> Read<Vec<Track>> {
    let items = reader.list(item, LIST)?;
    if items.len() > MAX {
        let message = format!("{} tracked things; an instance has at most {MAX}", items.len());
        return Err(reader.mistake(&item.place(), message));
    }
    let mut subjects = Unique::default();
    reader.each(&items, |reader, item| {
        let track = tracked(reader, item, known, pools)?;
        subjects.claim(reader, &item.place(), track.subject.clone(), |line| {
            format!("this is tracked already, on line {line}; remove one of the two")
        })?;
        Ok(track)
    })
}

fn tracked(reader: &mut Reader<'_>, item: &Item<'_>, known: &Known, pools: &Pools<'_>) -> Read<Track> {
    let fields = reader.fields(item, &TRACK)?;
    let effect = effect(reader, &fields, known);
    let written: Vec<&str> = SUBJECTS.into_iter().filter(|key| fields.get(key).is_some()).collect();
    let kind = match written[..] {
        [kind] => kind,
        [] => {
            return Err(fields.refused().unwrap_or_else(|| {
                let message = format!("nothing is tracked; write one of {}", suggest::list(&SUBJECTS));
                reader.mistake(&fields.at, message)
            }));
        }
        _ => {
            let message = format!("{} in one; write an item of the list for each", suggest::list(&written));
            return Err(reader.mistake(&fields.at, message));
        }
    };
    let settings = own_settings(reader, &fields, kind);
    let subject = subject(reader, &fields, kind, pools);
    let (effect, subject) = (effect?, subject?);
    settings?;
    other_than_own_interface(reader, &fields, &subject, known)?;
    Ok(Track { subject, effect })
}

fn effect(reader: &mut Reader<'_>, fields: &Fields<'_>, known: &Known) -> Read<Effect> {
    let Some(item) = fields.get("weight") else { return Ok(Effect::Fault) };
    if matches!(item.node.value, Value::Integer(0, _)) {
        let message = "0 changes nothing; write -253 to 253 without 0, or leave `weight` out: then a failure is a fault";
        return Err(reader.mistake(&item.place(), message));
    }
    let weight = reader.integer(&item, "a weight", WEIGHTS)?;
    if known.priority == Some(Priority::OWNER) {
        let message = "priority 255 never changes; leave `weight` out: then a failure is a fault, or write a priority up \
                       to 254";
        return Err(reader.mistake(&item.place(), message));
    }
    Ok(Effect::Weight(weight))
}

fn own_settings(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: &str) -> Read<()> {
    let mut result = Ok(());
    for (key, owner) in SETTINGS {
        if let Some(item) = fields.get(key).filter(|_| owner != kind) {
            let message = format!("`{key}` is a key of `{owner}`, not of `{kind}`; remove it");
            result = Err(reader.mistake(&item.place(), message));
        }
    }
    result
}

fn subject(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: &str, pools: &Pools<'_>) -> Read<Subject> {
    match kind {
        "interface" => {
            let name = reader.required(fields, kind, "eth1", |reader, item| {
                kernel_name(reader, item, "an interface", "eth1")
            })?;
            Ok(Subject::Interface(name))
        }
        "script" => Ok(Subject::Script(script(reader, fields)?)),
        "file" => {
            const FILE: &str = "/run/upstream";
            let read = |reader: &mut Reader<'_>, item: &Item<'_>| reader.path(item, "a file", FILE);
            Ok(Subject::File(reader.required(fields, kind, FILE, read)?))
        }
        "process" => {
            let name = reader.required(fields, kind, "nginx", |reader, item| {
                kernel_name(reader, item, "a process", "nginx")
            })?;
            Ok(Subject::Process(name))
        }
        "gateway" => {
            let address = reader.required(fields, kind, "default", |reader, item| {
                if matches!(&item.node.value, Value::Text(text) if text == "default") {
                    return Ok(None);
                }
                reader.neighbour(item, "192.0.2.254").map(Some)
            })?;
            Ok(Subject::Gateway(address))
        }
        _ => service(reader, fields, pools),
    }
}

/// A name that the kernel holds in 15 bytes. An interface need not be there: that is what is tracked.
fn kernel_name(reader: &mut Reader<'_>, item: &Item<'_>, what: &str, example: &str) -> Read<String> {
    let name = reader.text(item, what, example)?;
    let valid = name.len() <= MAX_KERNEL_NAME && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if valid {
        return Ok(name.to_owned());
    }
    let message = format!(
        "{} is not the name of {what}; the kernel holds {MAX_KERNEL_NAME} bytes of one, without space and `/`: write a \
         name such as `{example}`",
        describe(&item.node.value)
    );
    Err(reader.mistake(&item.place(), message))
}

fn script(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Read<Script> {
    let command = reader.required(fields, "script", PROGRAM, |reader, item| reader.command(item, PROGRAM));
    let pace = Pace::read(reader, fields, "run");
    let user = reader.optional(fields, "user", Reader::user);
    let (command, Pace { every, timeout, rise, fall }) = (command?, pace?);
    Ok(Script { command, user: user?, every, timeout, rise, fall })
}

fn service(reader: &mut Reader<'_>, fields: &Fields<'_>, pools: &Pools<'_>) -> Read<Subject> {
    let name = reader.required(fields, "service", "web", |reader, item| service_name(reader, item, pools));
    let min_backends = reader.optional(fields, "min_backends", |reader, item| {
        reader.integer(item, "a number of backends", 1..=u32::from(u16::MAX))
    });
    let (name, min_backends) = (name?, min_backends?.unwrap_or(1));
    let there = pools.get(name.as_str()).copied().unwrap_or_default();
    if let Some(item) = fields.get("min_backends")
        && usize::try_from(min_backends).is_ok_and(|wanted| there > 0 && wanted > there)
    {
        let message = format!(
            "{min_backends} is more than `{name}` has backends, and would always fail; write at most {there}"
        );
        return Err(reader.mistake(&item.place(), message));
    }
    Ok(Subject::Service { name, min_backends })
}

fn service_name(reader: &mut Reader<'_>, item: &Item<'_>, pools: &Pools<'_>) -> Read<String> {
    let name = reader.text(item, "the name of a service", "web")?;
    if pools.contains_key(name) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = pools.keys().copied().collect();
    let written = describe(&item.node.value);
    let message = match suggest::nearest(name, &names) {
        _ if names.is_empty() => {
            format!("there is no service {written}; this file has none, so add it to `services`")
        }
        Some(near) => format!("there is no service {written}; did you mean `{near}`?"),
        None => format!("there is no service {written}; write one of {}", suggest::list(&names)),
    };
    Err(reader.mistake(&item.place(), message))
}

/// Without its interface an instance is in fault, whatever a weight says.
fn other_than_own_interface(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    subject: &Subject,
    known: &Known,
) -> Read<()> {
    let Subject::Interface(name) = subject else { return Ok(()) };
    let Some(item) = fields.get("weight").filter(|_| known.interface.as_ref() == Some(name)) else {
        return Ok(());
    };
    let message = format!(
        "{name} is the instance's own interface, without which it is in fault anyway; remove `weight`"
    );
    Err(reader.mistake(&item.place(), message))
}
