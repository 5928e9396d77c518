//! The thread that lets flows expire and counts them. The program itself removes a flow only when its client opens the
//! connection anew, when its backend serves no more, or when it is over and another flow of its client needs its replies'
//! place.

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
    let mut idle: Vec<FlowKey> = Vec::new();
    flows.for_each(|key, value| {
        census.entries += 1;
        if expiry::may_expire(value, clock.since(value.last_seen, now), pressure) {
            idle.push(*key);
        }
        if value.is_forward() {
            *census.all.entry(value.backend).or_default() += 1;
            if value.phase == 0 {
                *census.active.entry(value.backend).or_default() += 1;
            }
        }
    })?;
    for key in idle {
        // Read again: a large table takes long to walk, and the flow may have woken up, or be gone by its other half.
        let Some(value) = flows.get(&key)? else {
            continue;
        };
        let halves = Halves { this: value, other: other_half(flows, &key, &value)? };
        if expiry::expired(&key, &halves, pressure, |then| clock.since(then, now)) {
            remove(flows, &key, &halves, &mut census)?;
        }
    }
    Ok(census)
}

/// `None` for a flow of one half, by `tunnel` or `direct`, and if it is missing.
fn other_half(flows: &Flows, key: &FlowKey, value: &FlowValue) -> Result<Option<FlowValue>, MapAccessError> {
    let other_key = key.other_half(value);
    Ok(flows.get(&other_key)?.filter(|other| other_key.other_half(other) == *key))
}

fn remove(
    flows: &mut Flows,
    key: &FlowKey,
    halves: &Halves,
    census: &mut Census,
) -> Result<(), MapAccessError> {
    flows.remove(key)?;
    census.entries = census.entries.saturating_sub(1);
    if halves.other.is_some() {
        flows.remove(&key.other_half(&halves.this))?;
        census.entries = census.entries.saturating_sub(1);
    }
    if let Some(forward) = [Some(halves.this), halves.other].into_iter().flatten().find(FlowValue::is_forward)
    {
        census.expired += 1;
        take_one(&mut census.all, forward.backend);
        if forward.phase == 0 {
            take_one(&mut census.active, forward.backend);
        }
    }
    Ok(())
}

fn take_one(counts: &mut BTreeMap<u32, u64>, backend: u32) {
    if let Some(count) = counts.get_mut(&backend) {
        *count = count.saturating_sub(1);
    }
}
