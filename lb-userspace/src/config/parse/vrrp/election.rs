//! Keys that decide who is master, and when.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::reader::{Item, Read, Reader, Shape, describe};
use super::super::values::{parse_duration, written};
use crate::config::model::{Preempt, Priority, Version};
use crate::config::yaml::Value;

const PREEMPT: Shape = Shape { what: "preempt", keys: &["delay"], later: &[], example: "{ delay: 30s }" };

/// RFC 9568 section 6.1.
pub(super) const DEFAULT_ADVERTISE: Duration = Duration::from_secs(1);
/// RFC 9568 section 5.2.7: centiseconds in 12 bits.
const ADVERTISE_V3: RangeInclusive<Duration> = CENTISECOND..=Duration::from_millis(40_950);
const CENTISECOND: Duration = Duration::from_millis(10);
/// RFC 3768 section 5.3.7: seconds in 8 bits.
const ADVERTISE_V2: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(255);
const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1000);

pub(super) fn version(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Version> {
    Ok(match reader.integer(item, "a version of VRRP", 2..=3)? {
        2 => Version::V2,
        _ => Version::V3,
    })
}

pub(super) fn priority(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Priority> {
    let number = reader.integer(item, "a priority", 1..=u8::MAX)?;
    Ok(Priority::new(number).expect("the range begins at 1"))
}

/// `version` is `None` when it is wrong.
pub(super) fn advertise(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    version: Option<Version>,
) -> Read<Duration> {
    match version {
        Some(Version::V2) => whole_seconds(reader, item),
        Some(Version::V3) => centiseconds(reader, item),
        None => reader.duration(item, CENTISECOND..=*ADVERTISE_V2.end(), "1s"),
    }
}

fn centiseconds(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Duration> {
    let interval = reader.duration(item, ADVERTISE_V3, "1s")?;
    if interval.as_nanos().is_multiple_of(CENTISECOND.as_nanos()) {
        return Ok(interval);
    }
    let message = format!(
        "{} is not a whole number of centiseconds, the unit of VRRP; write {} or another multiple of 10ms",
        written(interval),
        written(Duration::from_millis(u64::try_from(interval.as_millis()).unwrap_or(0) / 10 * 10))
    );
    Err(reader.mistake(&item.place(), message))
}

fn whole_seconds(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Duration> {
    if let Value::Text(text) = &item.node.value
        && let Some(interval) = parse_duration(text)
        && interval.subsec_nanos() != 0
    {
        let message = format!(
            "{} is not a whole number of seconds, the unit of version 2; write {}s, or use `version: 3`",
            describe(&item.node.value),
            interval.as_secs().clamp(1, 255)
        );
        return Err(reader.mistake(&item.place(), message));
    }
    reader.duration(item, ADVERTISE_V2, "1s")
}

/// RFC 9568 section 6.1: an owner preempts always.
pub(super) fn preempt(reader: &mut Reader<'_>, item: &Item<'_>, priority: Option<Priority>) -> Read<Preempt> {
    let preempt = match &item.node.value {
        Value::Bool(true) => Preempt::After(Duration::ZERO),
        Value::Bool(false) => Preempt::Never,
        Value::Map(_) => {
            let fields = reader.fields(item, &PREEMPT)?;
            let delay = reader
                .required(&fields, "delay", "30s", |reader, item| reader.duration(item, DELAY, "30s"))?;
            Preempt::After(delay)
        }
        other => {
            let message = format!(
                "{} does not say whether to preempt; write `true`, `false` or `{{ delay: 30s }}`",
                describe(other)
            );
            return Err(reader.mistake(&item.place(), message));
        }
    };
    if priority == Some(Priority::OWNER) && preempt != Preempt::After(Duration::ZERO) {
        let message = "a node of priority 255 owns the addresses and takes them at once; remove `preempt`, or write a \
                       priority up to 254";
        return Err(reader.mistake(&item.place(), message));
    }
    Ok(preempt)
}
