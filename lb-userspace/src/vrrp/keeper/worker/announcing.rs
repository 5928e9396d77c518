//! What there is to announce besides what was just added.

use std::collections::BTreeSet;

use super::super::changes::log_problem;
use super::super::target::Group;
use super::Worker;

impl Worker {
    /// Queues the announcements that were asked for, of what is there; the rest is announced when it is added.
    pub(super) fn answer_bursts(&mut self) {
        let asked = self.entries.iter_mut().filter_map(|(group, entry)| {
            let bursts = std::mem::replace(&mut entry.bursts, entry.wanted.bursts);
            (bursts != entry.wanted.bursts && entry.wanted.hold).then_some(*group)
        });
        let asked: BTreeSet<Group> = asked.collect();
        if asked.is_empty() {
            return;
        }
        for (at, held) in &self.target.addresses {
            if asked.contains(&held.group) && self.mirror.present(*at).is_some() {
                self.announcer.add(*at);
            }
        }
    }

    /// Queues the announcements of what is held on interfaces that came back: neighbours and switches there may have forgotten
    /// it. A group whose own interface was away has let go meanwhile; an address may have another interface.
    pub(super) fn announce_returned(&mut self) {
        let returned = std::mem::take(&mut self.mirror.returned);
        for at in self.target.announced_by(&returned).filter(|at| self.mirror.present(*at).is_some()) {
            self.announcer.add(at);
        }
    }

    pub(super) fn log_announcing(&self, sent: Result<(), String>) {
        if let Err(problem) = sent {
            log_problem(problem);
        }
    }
}
