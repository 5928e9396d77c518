//! What a master has to send, and when.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::super::reason::Peer;
use super::config::Channel;

/// Announcing once is not enough: the burst may meet a switch port that is not forwarding yet.
const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Bounds what a node that keeps claiming mastership can make this one send.
const MIN_ANNOUNCE_GAP: Duration = Duration::from_secs(1);
/// The shortest interval there is (RFC 9568 section 5.2.7).
const MIN_ADVERT_GAP: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Master {
    /// One for each channel.
    pub(super) rhythms: Vec<Rhythm>,
    announced_at: Instant,
    announce_at: Option<Instant>,
    rival: Option<Rival>,
    /// Until then, the master before this one may still be heard.
    predecessor_until: Option<Instant>,
}

/// Of the advertisements on a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    advertised_at: Option<Instant>,
    advertise_at: Instant,
}

/// The other master that was heard.
#[derive(Debug, Clone, Copy)]
struct Rival {
    peer: Peer,
    since: Instant,
    /// Until when it counts as present, unless heard again.
    until: Instant,
    /// Its down interval: what it would take to hear this node and give way.
    patience: Duration,
}

impl Rhythm {
    pub(super) fn new(channel: &Channel, now: Instant) -> Self {
        Self { advertised_at: Some(now), advertise_at: now + channel.interval }
    }

    /// Of a channel that is new to a master.
    pub(super) fn silent(channel: &Channel, now: Instant) -> Self {
        Self { advertised_at: None, advertise_at: now + channel.interval }
    }

    /// Backups still count by the old interval: a longer one starts after the advert that tells it.
    pub(super) fn shorten(&mut self, interval: Duration) {
        if let Some(advertised_at) = self.advertised_at {
            self.advertise_at = self.advertise_at.min(advertised_at + interval);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= self.advertise_at
    }

    /// From deadline to deadline, so that a late wake-up doesn't add up; not to make up for lost ones.
    fn advance(&mut self, interval: Duration, now: Instant) {
        self.advertised_at = Some(now);
        self.advertise_at += interval;
        if self.advertise_at <= now {
            self.advertise_at = now + interval;
        }
    }
}

impl Master {
    /// Has just advertised and announced.
    pub(super) fn new(channels: &[Channel], now: Instant) -> Self {
        Self {
            rhythms: channels.iter().map(|channel| Rhythm::new(channel, now)).collect(),
            announced_at: now,
            announce_at: Some(now + ANNOUNCE_AGAIN_AFTER),
            rival: None,
            predecessor_until: None,
        }
    }

    pub(super) fn next_due(&self, announce_every: Option<Duration>) -> Option<Instant> {
        let advert = self.rhythms.iter().map(|rhythm| rhythm.advertise_at).min();
        [advert, self.announcement_due(announce_every)].into_iter().flatten().min()
    }

    /// The channels whose advertisement is due, which it then no longer is.
    pub(super) fn take_due(&mut self, channels: &[Channel], now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, (rhythm, channel)) in self.rhythms.iter_mut().zip(channels).enumerate() {
            if rhythm.is_due(now) {
                rhythm.advance(channel.interval, now);
                due.push(index);
            }
        }
        due
    }

    /// Whether an advertisement besides the rhythm, which it does not disturb, may be sent.
    pub(super) fn may_assert(&mut self, channel: usize, now: Instant) -> bool {
        let Some(rhythm) = self.rhythms.get_mut(channel) else { return false };
        let may = rhythm.advertised_at.is_none_or(|at| now >= at + MIN_ADVERT_GAP);
        if may {
            rhythm.advertised_at = Some(now);
        }
        may
    }

    fn announcement_due(&self, every: Option<Duration>) -> Option<Instant> {
        let regular = every.map(|every| self.announced_at + every.max(MIN_ANNOUNCE_GAP));
        [self.announce_at, regular].into_iter().flatten().min()
    }

    /// Whether an announcement is due, which it then no longer is.
    pub(super) fn take_announcement(&mut self, every: Option<Duration>, now: Instant) -> bool {
        let due = self.announcement_due(every).is_some_and(|at| now >= at);
        if due {
            self.announced_at = now;
            self.announce_at = self.announce_at.filter(|&at| at > now);
        }
        due
    }

    /// Neighbours must learn better: whether to announce at once. It becomes due once more in any case.
    pub(super) fn announce(&mut self, now: Instant) -> bool {
        let at_once = now >= self.announced_at + MIN_ANNOUNCE_GAP;
        if at_once {
            self.announced_at = now;
        }
        self.announce_at.get_or_insert(now + ANNOUNCE_AGAIN_AFTER);
        at_once
    }

    /// The master that this one preempts says a last word as it gives way.
    pub(super) fn expect_predecessor(&mut self, until: Instant) {
        self.predecessor_until = Some(until);
    }

    pub(super) fn has_just_preempted(&self, now: Instant) -> bool {
        self.predecessor_until.is_some_and(|until| now < until)
    }

    /// Whether another master is new.
    pub(super) fn rival_heard(&mut self, peer: Peer, down_interval: Duration, now: Instant) -> bool {
        let present = self.rival.filter(|rival| now < rival.until);
        let since = present.map_or(now, |rival| rival.since);
        // On another channel it may have another interval: the longest counts.
        let until = present.map_or(now, |rival| rival.until).max(now + down_interval);
        self.rival = Some(Rival { peer, since, until, patience: down_interval });
        present.is_none()
    }

    pub(super) fn rival(&self, now: Instant) -> Option<Peer> {
        self.rival.filter(|rival| now < rival.until).map(|rival| rival.peer)
    }

    /// A rival that goes on in spite of what this node sends: it does not hear it.
    pub(super) fn deaf_rival(&self, now: Instant) -> Option<Peer> {
        let rival = self.rival.filter(|rival| now < rival.until)?;
        (now >= rival.since + 2 * rival.patience).then_some(rival.peer)
    }
}
