//! What the probes say: the gap, the loss, and how steady the prober itself was.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use serde::Serialize;

/// Times since the prober began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) sent: Duration,
    pub(super) answered: Option<Duration>,
}

/// What a client has seen of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outage {
    /// Longest time without an answer. Without an outage about the time between two probes.
    pub(super) gap: Duration,
    /// Probes that were never answered.
    pub(super) lost: usize,
    /// Longest time between two probes: a gap that is no longer than this may be the prober's own.
    pub(super) stall: Duration,
}

impl Outage {
    /// Of the probes in the order that they were sent, from `since` on.
    pub(super) fn of(probes: &[Probe], since: Duration) -> Self {
        let probes: Vec<Probe> = probes.iter().filter(|probe| probe.sent >= since).copied().collect();
        let sent: Vec<Duration> = probes.iter().map(|probe| probe.sent).collect();
        let mut answers: Vec<Duration> = probes.iter().filter_map(|probe| probe.answered).collect();
        answers.sort_unstable();
        let lost = probes.len() - answers.len();
        // Without an answer at either end the outage lasts from the first probe, or to the last.
        let ends = [probes.first(), probes.last()];
        answers.extend(ends.into_iter().flatten().filter(|end| end.answered.is_none()).map(|end| end.sent));
        answers.sort_unstable();
        Self { gap: longest_step(&answers), lost, stall: longest_step(&sent) }
    }
}

fn longest_step(times: &[Duration]) -> Duration {
    times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
}

/// Of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Of an even number of runs the mean of the two in the middle.
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Summary {
    /// `None` without a sample.
    pub(super) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_unstable_by(f64::total_cmp);
        let (&least, &most) = (samples.first()?, samples.last()?);
        let upper = samples.len() / 2;
        let lower = (samples.len() - 1) / 2;
        Some(Self { median: f64::midpoint(samples[lower], samples[upper]), least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// One probe a millisecond, each answered at once unless it is of `lost`.
    fn probes(count: u64, lost: std::ops::Range<u64>) -> Vec<Probe> {
        let probe = |at| Probe { sent: ms(at), answered: (!lost.contains(&at)).then_some(ms(at)) };
        (0..count).map(probe).collect()
    }

    #[test]
    fn the_gap_is_from_the_last_answer_before_to_the_first_after() {
        let seen = Outage::of(&probes(100, 40..60), ms(0));
        assert_eq!(seen, Outage { gap: ms(21), lost: 20, stall: ms(1) });
    }

    #[test]
    fn without_an_outage_nothing_is_lost_and_the_gap_is_that_between_probes() {
        assert_eq!(Outage::of(&probes(100, 0..0), ms(0)), Outage { gap: ms(1), lost: 0, stall: ms(1) });
    }

    #[test]
    fn late_answers_are_a_gap_but_no_loss_in_whatever_order_they_come() {
        let mut probes = probes(100, 0..0);
        for (probe, late) in probes[40..60].iter_mut().zip((60..80).rev()) {
            probe.answered = Some(ms(late));
        }
        assert_eq!(Outage::of(&probes, ms(0)), Outage { gap: ms(21), lost: 0, stall: ms(1) });
    }

    #[test]
    fn what_was_before_the_event_does_not_count() {
        let mut probes = probes(100, 5..30);
        probes.remove(33);
        let seen = Outage::of(&probes, ms(35));
        assert_eq!(seen, Outage { gap: ms(1), lost: 0, stall: ms(1) });
    }

    #[test]
    fn an_outage_that_does_not_end_lasts_to_the_last_probe() {
        assert_eq!(Outage::of(&probes(100, 40..100), ms(0)), Outage { gap: ms(60), lost: 60, stall: ms(1) });
        assert_eq!(Outage::of(&probes(100, 0..100), ms(0)), Outage { gap: ms(99), lost: 100, stall: ms(1) });
        assert_eq!(Outage::of(&[], ms(0)), Outage { gap: ms(0), lost: 0, stall: ms(0) });
    }

    #[test]
    fn a_prober_that_did_not_run_says_for_how_long() {
        let mut probes = probes(100, 0..0);
        probes.drain(40..60);
        assert_eq!(Outage::of(&probes, ms(0)), Outage { gap: ms(21), lost: 0, stall: ms(21) });
    }

    #[test]
    fn a_summary_is_of_the_sorted_samples() {
        let of = |samples: &[f64]| {
            Summary::of(samples.iter().copied()).map(|found| [found.median, found.least, found.most])
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some([3.0, 3.0, 3.0]));
        assert_eq!(of(&[9.0, 1.0, 2.0]), Some([2.0, 1.0, 9.0]));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some([3.0, 1.0, 9.0]));
    }
}
