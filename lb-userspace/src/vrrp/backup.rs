//! A node that waits for the master to fall silent on every channel (RFC 9568 section 6.4.2).
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::machine::{Channel, Heard, Standing, down_interval, skew};
use super::reason::{Peer, Reason};
use crate::config::model::Preempt;

#[derive(Debug)]
pub(super) struct Backup {
    /// One for each channel.
    watches: Vec<Watch>,
    /// A master of lower priority that is to be preempted, heard since.
    lower: Option<(Peer, Instant)>,
    patience: Option<Patience>,
}

/// With a master that seemed silent while this node slept.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// When a master was last heard before.
    heard: Instant,
    until: Instant,
}

/// Part of an interval that a timer may be late without this node having slept.
const LATE: u32 = 4;
/// Intervals: an advertisement may have come just before this node woke, and the next one some moments late.
const PATIENCE: u32 = 2;

#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// When the timer below was last started.
    since: Instant,
    wait: Wait,
    /// When it was last started by a master that is not to be preempted, or by nobody.
    better_since: Instant,
    /// Whose advertisements keep this node from mastership.
    master: Option<Heard>,
    /// The last one to be preempted, and when it was heard.
    lower: Option<(Heard, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Active_Down_Interval: three intervals and the skew.
    Down,
    /// The skew only: this master said it stops.
    Skew(Peer),
}

impl Watch {
    /// Follows `master`, or waits to hear of one.
    pub(super) fn new(master: Option<Heard>, now: Instant) -> Self {
        Self { since: now, wait: Wait::Down, better_since: now, master, lower: None }
    }

    /// Between the advertisements that it waits for.
    fn interval(&self, channel: &Channel) -> Duration {
        self.master.map_or(channel.interval, |master| master.interval)
    }

    fn down(&self, channel: &Channel, priority: u8) -> Duration {
        down_interval(channel.version, priority, self.interval(channel))
    }

    fn deadline(&self, channel: &Channel, priority: u8) -> Instant {
        match self.wait {
            Wait::Down => self.since + self.down(channel, priority),
            Wait::Skew(_) => self.since + skew(channel.version, priority, self.interval(channel)),
        }
    }

    /// When it would be due if masters of lower priority had not been followed.
    fn better_deadline(&self, channel: &Channel, priority: u8) -> Instant {
        match self.wait {
            Wait::Down => self.better_since + self.down(channel, priority),
            Wait::Skew(_) => self.deadline(channel, priority),
        }
    }

    /// Only of the master it follows, so that a late copy from another node doesn't start an election; and only once, so
    /// that copies don't put it off.
    fn master_stops(&mut self, master: Peer, now: Instant) {
        let follows_another = self.master.is_some_and(|followed| followed.from.address != master.address);
        if self.wait == Wait::Down && !follows_another {
            self.wait = Wait::Skew(master);
            self.since = now;
        }
    }
}

impl Backup {
    pub(super) fn new(watches: Vec<Watch>) -> Self {
        Self { watches, lower: None, patience: None }
    }

    pub(super) fn watches(&self) -> &[Watch] {
        &self.watches
    }

    /// Replaces the channels, without touching the timers of those that stay.
    pub(super) fn rewatch(&mut self, watches: Vec<Watch>) {
        self.watches = watches;
    }

    /// The priority or the wish to preempt has changed: a master that is no longer to be preempted is followed since it was
    /// heard.
    pub(super) fn reconsider(&mut self, standing: Standing) {
        self.lower = self.lower.filter(|(peer, _)| standing.preempts(*peer).is_some());
        for watch in &mut self.watches {
            if let Some((heard, at)) = watch.lower
                && standing.preempts(heard.from).is_none()
            {
                *watch = Watch::new(Some(heard), at);
            }
        }
    }

    /// When its timer counts; `None` without channels.
    pub(super) fn due(&self, channels: &[Channel], standing: Standing) -> Option<Instant> {
        let deadline = self.deadline(channels, standing)?;
        Some(self.patience().map_or(deadline, |patience| patience.until.max(deadline)))
    }

    /// To be told first at each call; `told` is when the machine had asked for one. A call so late that this node has slept says
    /// as much of this host, on which what was sent may be as late, as of a master that seems silent: the master is given
    /// time, once since it was heard. Not one that has stopped or is to be preempted: of it more is known than silence.
    pub(super) fn woken(&mut self, channels: &[Channel], standing: Standing, told: Instant, now: Instant) {
        let intervals = self.with(channels).map(|(watch, channel)| watch.interval(channel));
        let (Some(interval), Some(heard)) = (intervals.min(), self.last_heard()) else { return };
        if now <= told + interval / LATE || self.patience().is_some() {
            return;
        }
        if let Reason::Silence { master: Some(_), .. } = self.takeover_reason(channels, standing, now) {
            self.patience = Some(Patience { heard, until: now + PATIENCE * interval });
        }
    }

    /// That was granted, if nobody was heard since; it may have run out.
    fn patience(&self) -> Option<Patience> {
        let heard = self.last_heard()?;
        self.patience.filter(|patience| heard <= patience.heard)
    }

    /// When a timer was last started.
    fn last_heard(&self) -> Option<Instant> {
        self.watches.iter().map(|watch| watch.since).max()
    }

    /// When mastership is due; `None` without channels.
    pub(super) fn deadline(&self, channels: &[Channel], standing: Standing) -> Option<Instant> {
        let silence = self.silence(channels, standing)?;
        Some(self.preemption(channels, standing).map_or(silence, |preemption| preemption.min(silence)))
    }

    /// When the last channel has been silent for long enough.
    fn silence(&self, channels: &[Channel], standing: Standing) -> Option<Instant> {
        self.with(channels).map(|(watch, channel)| watch.deadline(channel, standing.priority)).max()
    }

    /// When the master of lower priority has been heard for long enough, and no better one on any channel.
    pub(super) fn preemption(&self, channels: &[Channel], standing: Standing) -> Option<Instant> {
        let (peer, since) = self.lower?;
        let delay = standing.preempts(peer)?;
        let better =
            self.with(channels).map(|(watch, channel)| watch.better_deadline(channel, standing.priority));
        Some(better.max()?.max(since + delay))
    }

    fn with<'a>(&'a self, channels: &'a [Channel]) -> impl Iterator<Item = (&'a Watch, &'a Channel)> {
        self.watches.iter().zip(channels)
    }

    /// RFC 9568 section 6.4.2.
    pub(super) fn heard(&mut self, channel: usize, heard: Heard, standing: Standing, now: Instant) {
        let Some(watch) = self.watches.get_mut(channel) else { return };
        if heard.from.priority == 0 {
            watch.master_stops(heard.from, now);
            return;
        }
        let Some(delay) = standing.preempts(heard.from) else {
            *watch = Watch::new(Some(heard), now);
            self.lower = None;
            return;
        };
        let (lower, since) = self.lower.get_or_insert((heard.from, now));
        *lower = heard.from;
        watch.lower = Some((heard, now));
        if now < *since + delay {
            watch.since = now;
            watch.wait = Wait::Down;
            watch.master = Some(heard);
        }
    }

    pub(super) fn takeover_reason(&self, channels: &[Channel], standing: Standing, now: Instant) -> Reason {
        let stopped = self.watches.iter().find_map(|watch| match watch.wait {
            Wait::Skew(master) => Some(master),
            Wait::Down => None,
        });
        if let Some(master) = stopped {
            return Reason::MasterStopped { master };
        }
        if let Some((master, _)) = self.lower
            && self.preemption(channels, standing).is_some_and(|at| at <= now)
        {
            return Reason::Preempted { master, own: standing.priority };
        }
        let last =
            self.with(channels).max_by_key(|(watch, channel)| watch.deadline(channel, standing.priority));
        Reason::Silence {
            master: last.and_then(|(watch, _)| watch.master).map(|master| master.from),
            lasted: last.map_or(Duration::ZERO, |(watch, _)| now.saturating_duration_since(watch.since)),
        }
    }

    /// The master that is followed or about to be preempted: of several the one heard last.
    pub(super) fn master(&self) -> Option<Peer> {
        let followed =
            self.watches.iter().filter(|watch| watch.master.is_some()).max_by_key(|watch| watch.since);
        self.lower.map(|(peer, _)| peer).or_else(|| Some(followed?.master?.from))
    }
}

impl Standing {
    /// Whether, and after how long of hearing it, this node takes over from the master `peer`.
    fn preempts(self, peer: Peer) -> Option<Duration> {
        let lower = peer.priority < self.priority;
        match self.preempt {
            Preempt::After(delay) if lower => Some(delay),
            Preempt::Never | Preempt::After(_) => None,
        }
    }
}
