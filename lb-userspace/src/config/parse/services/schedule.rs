//! How a flow finds its backend: `scheduler`, `per_packet` and `persistence`.

use super::Fields;
use crate::config::model::{Persistence, Scheduler};
use crate::config::parse::flows::LONG;
use crate::config::parse::reader::{Item, Read, Reader, Shape};
use crate::config::parse::values::Choice;
use crate::config::yaml::Value;

const SCHEDULER: Choice<Scheduler> = Choice {
    what: "a scheduler",
    words: &[
        ("maglev", Scheduler::Maglev),
        ("source-hash", Scheduler::SourceHash),
        ("round-robin", Scheduler::RoundRobin),
        ("weighted", Scheduler::Weighted),
        ("least-conn", Scheduler::LeastConn),
        ("failover", Scheduler::Failover),
        ("overflow", Scheduler::Overflow),
        ("random", Scheduler::Random),
    ],
    instead: &[
        ("mh", "maglev"),
        ("dh", "maglev"),
        ("lblc", "maglev"),
        ("lblcr", "maglev"),
        ("sh", "source-hash"),
        ("rr", "round-robin"),
        ("wrr", "weighted"),
        ("weighted-round-robin", "weighted"),
        ("lc", "least-conn"),
        ("wlc", "least-conn"),
        ("sed", "least-conn"),
        ("nq", "least-conn"),
        ("twos", "least-conn"),
        ("fo", "failover"),
        ("ovf", "overflow"),
    ],
    later: &[],
};

const PERSISTENCE: Shape = Shape {
    what: "persistence",
    keys: &["timeout", "ipv4", "ipv6"],
    later: &[],
    example: "{ timeout: 5m, ipv4: 24, ipv6: 64 }",
};

/// As far as it could be read.
pub(super) struct Schedule {
    scheduler: Read<Option<Scheduler>>,
    per_packet: Read<Option<bool>>,
    persistence: Read<Option<Persistence>>,
}

pub(super) struct Whole {
    pub(super) scheduler: Scheduler,
    pub(super) per_packet: bool,
    pub(super) persistence: Option<Persistence>,
}

pub(super) fn schedule(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Schedule {
    Schedule {
        scheduler: reader.optional(fields, "scheduler", |reader, item| reader.choice(item, &SCHEDULER)),
        per_packet: reader.optional(fields, "per_packet", Reader::boolean),
        persistence: reader.optional(fields, "persistence", persistence),
    }
}

/// The scheduler, or what a slip was meant to be.
pub(super) fn scheduler(fields: &Fields<'_>, schedule: &Schedule) -> Option<Scheduler> {
    match schedule.scheduler {
        Ok(scheduler) => Some(scheduler.unwrap_or_default()),
        Err(_) => SCHEDULER.meant(&fields.get("scheduler")?),
    }
}

impl Schedule {
    /// Whether it is written, and as `true`.
    pub(super) fn per_packet(&self) -> bool {
        matches!(self.per_packet, Ok(Some(true)))
    }

    pub(super) fn whole(self) -> Read<Whole> {
        Ok(Whole {
            scheduler: self.scheduler?.unwrap_or_default(),
            per_packet: self.per_packet?.unwrap_or_default(),
            persistence: self.persistence?,
        })
    }
}

fn persistence(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Persistence> {
    const EXAMPLE: &str = "5m";
    let Value::Map(_) = item.node.value else {
        let timeout = reader.duration(item, LONG, EXAMPLE)?;
        return Ok(Persistence { timeout, ipv4_prefix: 32, ipv6_prefix: 128 });
    };
    let fields = reader.fields(item, &PERSISTENCE)?;
    let timeout =
        reader.required(&fields, "timeout", EXAMPLE, |reader, item| reader.duration(item, LONG, EXAMPLE));
    let length = |reader: &mut Reader<'_>, key, longest| {
        reader.optional(&fields, key, |reader, item| reader.integer(item, "a prefix length", 1..=longest))
    };
    let ipv4_prefix = length(reader, "ipv4", 32);
    let ipv6_prefix = length(reader, "ipv6", 128);
    Ok(Persistence {
        timeout: timeout?,
        ipv4_prefix: ipv4_prefix?.unwrap_or(32),
        ipv6_prefix: ipv6_prefix?.unwrap_or(128),
    })
}
