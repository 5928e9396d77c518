//! `flows`: how many are kept, and for how long.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Fields, Item, Read, Reader, Shape};
use crate::config::model::{Flows, Timeouts};

const FLOWS: Shape = Shape {
    what: "flows",
    keys: &["ipv4", "ipv6", "timeouts"],
    later: &[],
    example: "{ ipv4: 1048576, ipv6: 262144, timeouts: { established: 15m } }",
};

const TIMEOUTS: Shape = Shape {
    what: "timeouts",
    keys: &["established", "fin_wait", "close_wait", "time_wait", "close", "syn_recv", "udp"],
    later: &[],
    example: "{ established: 15m, udp: 5m }",
};

const ENTRIES: RangeInclusive<u32> = 1024..=1 << 24;
/// What a timeout of flows may be.
pub(super) const LONG: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

pub(super) fn flows(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Flows> {
    let fields = reader.fields(item, &FLOWS)?;
    let default = Flows::default();
    let ipv4 = reader.optional(&fields, "ipv4", entries);
    let ipv6 = reader.optional(&fields, "ipv6", entries);
    let timeouts = reader.optional(&fields, "timeouts", timeouts);
    Ok(Flows {
        ipv4: ipv4?.unwrap_or(default.ipv4),
        ipv6: ipv6?.unwrap_or(default.ipv6),
        timeouts: timeouts?.unwrap_or_default(),
    })
}

fn entries(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<u32> {
    reader.integer(item, "a number of flows", ENTRIES)
}

fn timeouts(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Timeouts> {
    let fields = reader.fields(item, &TIMEOUTS)?;
    let default = Timeouts::default();
    let established = timeout(reader, &fields, "established", default.established);
    let fin_wait = timeout(reader, &fields, "fin_wait", default.fin_wait);
    let close_wait = timeout(reader, &fields, "close_wait", default.close_wait);
    let time_wait = timeout(reader, &fields, "time_wait", default.time_wait);
    let close = timeout(reader, &fields, "close", default.close);
    let syn_recv = timeout(reader, &fields, "syn_recv", default.syn_recv);
    let udp = timeout(reader, &fields, "udp", default.udp);
    Ok(Timeouts {
        established: established?,
        fin_wait: fin_wait?,
        close_wait: close_wait?,
        time_wait: time_wait?,
        close: close?,
        syn_recv: syn_recv?,
        udp: udp?,
    })
}

fn timeout(reader: &mut Reader<'_>, fields: &Fields<'_>, key: &str, default: Duration) -> Read<Duration> {
    let written = reader.optional(fields, key, |reader, item| reader.duration(item, LONG, "2m"))?;
    Ok(written.unwrap_or(default))
}
