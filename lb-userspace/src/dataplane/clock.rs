//! What a jiffy is: the flow table keeps times in jiffies, whose length only the kernel's configuration tells.

use std::thread;
use std::time::Duration;

use aya::programs::{ProgramError, TestRun as _, TestRunOptions};
use thiserror::Error;

use super::{DataPlane, LoadError};

#[derive(Debug, Error)]
pub enum ClockError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot run the clock program: {0}")]
    Run(#[from] ProgramError),
}

/// Converts jiffies of the flow table to time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    jiffies_per_second: f64,
    origin: Reading,
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub jiffies: u64,
    pub nanoseconds: u64,
}

impl Clock {
    /// Compares jiffies with the monotonic clock for a tenth of a second.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn measure(plane: &mut DataPlane) -> Result<Self, ClockError> {
        let first = read(plane)?;
        thread::sleep(Duration::from_millis(100));
        Ok(Self::between(first, read(plane)?))
    }

    /// The kernel's HZ is one of a few numbers, so the nearest is exact.
    fn between(first: Reading, last: Reading) -> Self {
        let seconds = last.nanoseconds.saturating_sub(first.nanoseconds).max(1) as f64 / 1e9;
        let measured = last.jiffies.saturating_sub(first.jiffies) as f64 / seconds;
        let distance = |hz: &&f64| ((*hz / measured).ln().abs() * 1e6) as u64;
        let jiffies_per_second =
            [100.0, 250.0, 300.0, 1000.0].iter().min_by_key(distance).copied().unwrap_or(1000.0);
        Self { jiffies_per_second, origin: last }
    }

    /// One that counts from 0 when the monotonic clock does.
    #[cfg(test)]
    pub(super) const fn of(jiffies_per_second: f64) -> Self {
        Self { jiffies_per_second, origin: Reading { jiffies: 0, nanoseconds: 0 } }
    }

    /// Jiffies a second: the kernel's `CONFIG_HZ`.
    #[must_use]
    pub const fn hz(&self) -> u32 {
        self.jiffies_per_second as u32
    }

    /// The low 32 bits of jiffies at a time of `CLOCK_MONOTONIC`: jiffies follow that clock
    /// (`tick_do_update_jiffies64` in kernel/time/tick-sched.c).
    #[must_use]
    pub fn jiffies(&self, monotonic: Duration) -> u32 {
        let passed = monotonic.saturating_sub(Duration::from_nanos(self.origin.nanoseconds));
        (self.origin.jiffies + (passed.as_secs_f64() * self.jiffies_per_second) as u64) as u32
    }

    /// Jiffies that a time lasts.
    #[must_use]
    pub fn ticks(&self, time: Duration) -> u32 {
        (time.as_secs_f64() * self.jiffies_per_second) as u32
    }
}

fn read(plane: &mut DataPlane) -> Result<Reading, ClockError> {
    let packet = [0_u8; 64];
    let mut out = [0_u8; 64];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&packet);
    options.data_out = Some(&mut out);
    plane.program_named("clock")?.test_run(options)?;
    let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| out[at + byte]));
    Ok(Reading { jiffies: word(0), nanoseconds: word(8) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_a_tick_off_still_finds_the_kernels_hz() {
        for hz in [100_u64, 250, 300, 1000] {
            for off in [0, 1] {
                let first = Reading { jiffies: 5000, nanoseconds: 7_000_000_000 };
                let last = Reading { jiffies: 5000 + hz / 10 + off, nanoseconds: 7_103_000_000 };
                assert_eq!(Clock::between(first, last).jiffies_per_second, hz as f64);
            }
        }
    }

    #[test]
    fn jiffies_follow_the_monotonic_clock() {
        let first = Reading { jiffies: 10_000, nanoseconds: 1_000_000_000 };
        let last = Reading { jiffies: 10_025, nanoseconds: 1_100_000_000 };
        let clock = Clock::between(first, last);
        assert_eq!(clock.jiffies(Duration::from_millis(2_100)), 10_275);
    }

    #[test]
    fn a_time_is_so_many_jiffies_and_one_too_long_is_the_most_there_can_be() {
        let clock = Clock { jiffies_per_second: 250.0, origin: Reading { jiffies: 0, nanoseconds: 0 } };
        assert_eq!(clock.ticks(Duration::from_millis(1_500)), 375);
        assert_eq!(clock.ticks(Duration::MAX), u32::MAX);
    }
}
