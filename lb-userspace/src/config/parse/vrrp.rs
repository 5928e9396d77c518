//! `vrrp`: the instances.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Item, Read, Reader, Shape, Unique};
use super::values::written;
use crate::config::model::{Instance, Preempt, Priority, VirtualAddress, Vrid};
use crate::config::yaml::Value;

const INSTANCE: Shape = Shape {
    what: "a VRRP instance",
    keys: &["name", "interface", "vrid", "priority", "advertise", "preempt", "addresses"],
    later: &["virtual_mac", "track"],
    example: "{ name: outside, interface: eth0, vrid: 51, addresses: [203.0.113.10/24] }",
};
const LIST: &str = "[{ name: outside, interface: eth0, vrid: 51, addresses: [203.0.113.10/24] }]";

/// RFC 9568 section 5.2.7: centiseconds in 12 bits.
const ADVERTISE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(40_950);
const CENTISECOND: Duration = Duration::from_millis(10);
/// RFC 9568 section 5.2.5: the count of addresses is one byte.
const MAX_ADDRESSES: usize = 255;

/// What may be used only once.
#[derive(Default)]
struct Taken {
    names: Unique<String>,
    vrids: Unique<(String, Vrid)>,
    addresses: Unique<std::net::IpAddr>,
}

pub(super) fn instances(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Vec<Instance>> {
    let items = reader.list(item, LIST)?;
    let mut taken = Taken::default();
    reader.each(&items, |reader, item| instance(reader, item, &mut taken))
}

fn instance(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut Taken) -> Read<Instance> {
    let fields = reader.fields(item, &INSTANCE)?;
    let name = reader.required(&fields, "name", "outside", |reader, item| {
        let name = reader.name(item)?;
        taken.names.claim(reader, &item.place(), name.clone(), |line| {
            format!("the instance on line {line} is called `{name}` too; give each a name of its own")
        })?;
        Ok(name)
    });
    let interface = reader.required(&fields, "interface", "eth0", Reader::interface);
    // Whether this host has it or not: two instances collide on it.
    let written_interface = fields.get("interface").and_then(|item| match &item.node.value {
        Value::Text(name) => Some(name.clone()),
        _ => None,
    });
    let vrid = reader.required(&fields, "vrid", "51", |reader, item| {
        let vrid = vrid(reader, item)?;
        if let Some(interface) = &written_interface {
            taken.vrids.claim(reader, &item.place(), (interface.clone(), vrid), |line| {
                format!(
                    "{} is the VRID of another instance on {interface}, on line {line}; write another from 1 to 255",
                    vrid.as_u8()
                )
            })?;
        }
        Ok(vrid)
    });
    let priority = reader.optional(&fields, "priority", priority);
    let advertise = reader.optional(&fields, "advertise", advertise);
    let preempt = reader.optional(&fields, "preempt", Reader::boolean);
    let addresses = reader
        .required(&fields, "addresses", "[203.0.113.10/24]", |reader, item| addresses(reader, item, taken));
    let (name, interface, vrid) = (name?, interface?, vrid?);
    let mut instance = Instance { addresses: addresses?, ..Instance::new(&name, &interface, vrid) };
    if let Some(priority) = priority? {
        instance.priority = priority;
    }
    if let Some(advertise) = advertise? {
        instance.advertise = advertise;
    }
    if preempt? == Some(false) {
        instance.preempt = Preempt::Never;
    }
    Ok(instance)
}

fn vrid(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Vrid> {
    let number = reader.integer(item, "a VRID", 1..=u8::MAX)?;
    Ok(Vrid::new(number).expect("the range begins at 1"))
}

fn priority(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Priority> {
    let number = reader.integer(item, "a priority", 1..=u8::MAX)?;
    Ok(Priority::new(number).expect("the range begins at 1"))
}

fn advertise(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Duration> {
    let interval = reader.duration(item, ADVERTISE, "1s")?;
    let rest = interval.as_nanos() % CENTISECOND.as_nanos();
    if rest == 0 {
        return Ok(interval);
    }
    let message = format!(
        "{} is not a whole number of centiseconds, the unit of VRRP; write {} or another multiple of 10ms",
        written(interval),
        written(Duration::from_millis(u64::try_from(interval.as_millis()).unwrap_or(0) / 10 * 10))
    );
    Err(reader.mistake(&item.place(), message))
}

fn addresses(reader: &mut Reader<'_>, item: &Item<'_>, taken: &mut Taken) -> Read<Vec<VirtualAddress>> {
    const EXAMPLE: &str = "[203.0.113.10/24]";
    let items = reader.list(item, EXAMPLE)?;
    if items.is_empty() || items.len() > MAX_ADDRESSES {
        let message =
            format!("{} addresses; an instance has 1 to {MAX_ADDRESSES}, such as `{EXAMPLE}`", items.len());
        return Err(reader.mistake(&item.place(), message));
    }
    reader.each(&items, |reader, item| {
        let prefix = reader.prefix(item)?;
        taken.addresses.claim(reader, &item.place(), prefix.address, |line| {
            format!("{} is a virtual address already, on line {line}; remove one of the two", prefix.address)
        })?;
        Ok(prefix.into())
    })
}
