//! The thread that lets flows expire and counts them: the only one that removes from the flow table.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use lb_common::flow::{FlowKey, FlowValue};
use lb_common::limits;
use nix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::sync::mpsc;

use super::clock::Clock;
pub use super::expiry::Pressure;
use super::expiry::{self, Halves};
use super::maps::{Flows, MapAccessError};

/// What one sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Entries in the table after the sweep.
    pub entries: u64,
    /// Flows that expired in this sweep.
    pub expired: u64,
    /// Flows that have not ended, by number of their backend.
    pub active: BTreeMap<u32, u64>,
    /// All flows, ending ones included, by number of their backend.
    pub all: BTreeMap<u32, u64>,
}

#[derive(Debug, Error)]
enum SweepError {
    #[error("no clock: {0}")]
    Clock(#[from] nix::Error),
    #[error(transparent)]
    Map(#[from] MapAccessError),
}

#[derive(Debug, Error)]
#[error("cannot start the thread that lets flows expire: {0}")]
pub struct StartError(#[from] std::io::Error);

/// Least time between two sweeps; a sweep that takes long waits twenty times as long, so that it costs at most 5 % of
/// one CPU.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sweeps until nobody listens to the censuses any more.
///
/// # Errors
/// The thread could not be started.
pub fn start(mut flows: Flows, clock: Clock, censuses: mpsc::Sender<Census>) -> Result<(), StartError> {
    thread::Builder::new().name("sweep".into()).spawn(move || {
        let mut entries = 0;
        while !censuses.is_closed() {
            let started = Instant::now();
            let pressure = Pressure::of(entries, u64::from(limits::FLOWS));
            match monotonic().and_then(|now| Ok(sweep(&mut flows, clock, clock.jiffies(now), pressure)?)) {
                Ok(census) => {
                    entries = census.entries;
                    if censuses.blocking_send(census).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!("flows do not expire: {error}"),
            }
            thread::sleep(INTERVAL.max(started.elapsed() * 20));
        }
    })?;
    Ok(())
}

fn monotonic() -> Result<Duration, SweepError> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

/// # Errors
/// The flow table could not be read or changed.
pub fn sweep(
    flows: &mut Flows,
    clock: Clock,
    now: u32,
    pressure: Pressure,
) -> Result<Census, MapAccessError> {
    let mut census = Census::default();
    let mut idle: Vec<(FlowKey, FlowValue)> = Vec::new();
    flows.for_each(|key, value| {
        census.entries += 1;
        if expiry::may_expire(value, clock.since(value.last_seen, now), pressure) {
            idle.push((*key, *value));
        }
        if value.is_forward() {
            *census.all.entry(value.backend).or_default() += 1;
            if value.phase == 0 {
                *census.active.entry(value.backend).or_default() += 1;
            }
        }
    })?;
    for (key, value) in idle {
        let halves = Halves { this: value, other: flows.get(&key.other_half(&value))? };
        if expiry::expired(&key, &halves, pressure, |then| clock.since(then, now)) {
            remove(flows, &key, &value, &mut census)?;
        }
    }
    Ok(census)
}

fn remove(
    flows: &mut Flows,
    key: &FlowKey,
    value: &FlowValue,
    census: &mut Census,
) -> Result<(), MapAccessError> {
    let other = key.other_half(value);
    for half in [key, &other] {
        if flows.get(half)?.is_some() {
            flows.remove(half)?;
            census.entries = census.entries.saturating_sub(1);
        }
    }
    if value.is_forward() {
        census.expired += 1;
        take_one(&mut census.all, value.backend);
        if value.phase == 0 {
            take_one(&mut census.active, value.backend);
        }
    }
    Ok(())
}

fn take_one(counts: &mut BTreeMap<u32, u64>, backend: u32) {
    if let Some(count) = counts.get_mut(&backend) {
        *count = count.saturating_sub(1);
    }
}
