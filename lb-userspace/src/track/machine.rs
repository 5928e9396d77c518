//! What was found of every tracked subject, and what that does to each group: no clock, no process, no socket.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::words;
use super::{GroupId, TrackState, Tracked};
use crate::config::model::{Effect, Script, Subject, Track};

/// A priority has no more to gain or to lose.
const MOST: i32 = 254;

/// What a look at a subject came to; the text is for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Well(String),
    Ill(String),
    /// Of a file.
    Number(i32, String),
}

/// What a subject is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was found yet. Counts as well, a file as 0.
    Unknown,
    Well,
    Ill,
    Number(i32),
}

/// A change of standing, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub subject: String,
    pub from: Standing,
    pub to: Standing,
    pub detail: String,
}

#[derive(Debug, Clone, Default)]
pub struct Machine {
    groups: BTreeMap<GroupId, Vec<Track>>,
    subjects: BTreeMap<Subject, Watched>,
    services: BTreeMap<String, Backends>,
}

#[derive(Debug, Clone)]
struct Watched {
    standing: Standing,
    since: SystemTime,
    /// Findings in a row that speak against the standing.
    against: u32,
    detail: String,
}

/// Of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Backends {
    up: u32,
    checking: u32,
}

impl Machine {
    /// Takes what each group tracks. A subject that stays keeps what was found of it, a script also if its times and counts
    /// change.
    pub fn configure(&mut self, groups: BTreeMap<GroupId, Vec<Track>>, now: SystemTime) -> Vec<Change> {
        let wanted: BTreeSet<&Subject> = groups.values().flatten().map(|track| &track.subject).collect();
        let mut before = std::mem::take(&mut self.subjects);
        let mut fresh = Vec::new();
        for subject in wanted {
            match before.remove(subject) {
                Some(watched) => drop(self.subjects.insert(subject.clone(), watched)),
                None => fresh.push(subject.clone()),
            }
        }
        for subject in fresh {
            let same = before.iter().find(|(old, _)| is_same_script(old, &subject));
            let watched = same.map_or_else(|| Watched::new(now), |(_, watched)| watched.clone());
            self.subjects.insert(subject, watched);
        }
        self.groups = groups;
        self.judge_services(now)
    }

    /// The groups that track a subject.
    pub fn groups_of<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a GroupId> {
        let groups = self.groups.iter();
        groups
            .filter(|(_, tracks)| tracks.iter().any(|track| track.subject == *subject))
            .map(|(group, _)| group)
    }

    /// Takes what was found; nothing of what nobody tracks any more. The first finding decides, whatever `rise` and `fall`.
    pub fn handle_finding(&mut self, subject: &Subject, finding: Finding, now: SystemTime) -> Option<Change> {
        let (rise, fall) = counts(subject);
        let watched = self.subjects.get_mut(subject)?;
        let from = watched.standing;
        watched.take(finding, rise, fall, now);
        (watched.standing != from).then(|| Change {
            subject: words::subject(subject),
            from,
            to: watched.standing,
            detail: watched.detail.clone(),
        })
    }

    /// Takes how many backends of a service are up, and of how many nothing is known yet.
    pub fn handle_service(&mut self, name: &str, up: u32, checking: u32, now: SystemTime) -> Vec<Change> {
        self.services.insert(name.to_owned(), Backends { up, checking });
        self.judge_services(now)
    }

    fn judge_services(&mut self, now: SystemTime) -> Vec<Change> {
        let findings: Vec<_> = self
            .subjects
            .keys()
            .filter_map(|subject| {
                let Subject::Service { name, min_backends } = subject else { return None };
                Some((subject.clone(), self.services.get(name)?.finding(*min_backends)?))
            })
            .collect();
        findings
            .into_iter()
            .filter_map(|(subject, finding)| self.handle_finding(&subject, finding, now))
            .collect()
    }

    /// What the group's subjects come to. What several members of a group track with the same effect counts once.
    #[must_use]
    pub fn state(&self, group: &str) -> TrackState {
        let mut state = TrackState::default();
        let mut faults = Vec::new();
        let tracks = self.groups.get(group).map(Vec::as_slice).unwrap_or_default();
        for (index, track) in tracks.iter().enumerate() {
            let Some(watched) = self.subjects.get(&track.subject) else { continue };
            if tracks[..index].contains(track) {
                continue;
            }
            let subject = words::subject(&track.subject);
            let ok = match effect(track.effect, watched.standing) {
                Influence::Fault => {
                    faults.push(format!("{subject}: {}", watched.detail));
                    false
                }
                Influence::Adjustment(adjustment) => {
                    state.adjustment = state.adjustment.saturating_add(adjustment);
                    watched.standing != Standing::Ill
                        && !matches!(watched.standing, Standing::Number(_) if adjustment < 0)
                }
            };
            let effect = words::effect(track);
            let detail = watched.detail.clone();
            state.subjects.push(Tracked { subject, ok, effect, detail, since: watched.since });
        }
        state.fault = (!faults.is_empty()).then(|| faults.join("; "));
        state
    }
}

enum Influence {
    Fault,
    Adjustment(i32),
}

fn effect(effect: Effect, standing: Standing) -> Influence {
    let weight = match effect {
        Effect::Weight(weight) => i32::from(weight),
        Effect::Fault => {
            let fault = matches!(standing, Standing::Ill)
                || matches!(standing, Standing::Number(number) if number != 0);
            return if fault { Influence::Fault } else { Influence::Adjustment(0) };
        }
    };
    Influence::Adjustment(match standing {
        Standing::Number(number) => number.saturating_mul(weight).clamp(-MOST, MOST),
        Standing::Ill => weight.min(0),
        Standing::Well | Standing::Unknown => weight.max(0),
    })
}

impl Watched {
    fn new(now: SystemTime) -> Self {
        Self { standing: Standing::Unknown, since: now, against: 0, detail: "not looked at yet".to_owned() }
    }

    fn take(&mut self, finding: Finding, rise: u32, fall: u32, now: SystemTime) {
        let (found, detail) = match finding {
            Finding::Well(detail) => (Standing::Well, detail),
            Finding::Ill(detail) => (Standing::Ill, detail),
            Finding::Number(number, detail) => (Standing::Number(number), detail),
        };
        self.detail = detail;
        if found == self.standing {
            self.against = 0;
            return;
        }
        self.against = self.against.saturating_add(1);
        let needed = match (self.standing, found) {
            (Standing::Well, Standing::Ill) => fall.max(1),
            (Standing::Ill, Standing::Well) => rise.max(1),
            _ => 1,
        };
        if self.against < needed {
            self.detail += &format!(" ({} of {needed} times)", self.against);
            return;
        }
        *self = Self { standing: found, since: now, against: 0, detail: std::mem::take(&mut self.detail) };
    }
}

impl Backends {
    /// `None` while it depends on checks that have not finished.
    fn finding(self, needed: u32) -> Option<Finding> {
        let detail = format!("{} up, {needed} needed", self.up);
        if self.up >= needed {
            Some(Finding::Well(detail))
        } else {
            (self.up.saturating_add(self.checking) < needed).then_some(Finding::Ill(detail))
        }
    }
}

/// Rise and fall.
const fn counts(subject: &Subject) -> (u32, u32) {
    match subject {
        Subject::Script(script) => (script.rise, script.fall),
        _ => (1, 1),
    }
}

fn is_same_script(one: &Subject, other: &Subject) -> bool {
    let what = |script: &Script| (script.command.clone(), script.user.clone());
    matches!((one, other), (Subject::Script(one), Subject::Script(other)) if what(one) == what(other))
}
