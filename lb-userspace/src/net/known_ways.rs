//! What is known of the ways to backends over time: one that is lost is kept as it was, for the flows that go by it, until
//! there is one again.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::links::Links;
use super::next_hop::Ways;
use super::way::{Loss, Unresolved};
use crate::desired::{Reach, Way};

#[derive(Debug, Default)]
pub struct KnownWays {
    /// As they were found last.
    ways: BTreeMap<IpAddr, Way>,
    /// Of the ways, by name: what is gone has none any more.
    interfaces: BTreeMap<IpAddr, String>,
    troubles: BTreeMap<IpAddr, Trouble>,
}

/// Why there is no way now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub reason: Unresolved,
    /// The worst since there was a way: a neighbour that is asked for again has not answered yet.
    pub loss: Option<Loss>,
    /// When that began.
    pub since: Instant,
}

/// What a round changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Ways that are others now.
    pub other: BTreeSet<IpAddr>,
    /// What is reached otherwise, or not any more: as it was, and as it is.
    pub reach: BTreeMap<IpAddr, (Reach, Reach)>,
}

impl Changes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.other.is_empty() && self.reach.is_empty()
    }
}

impl KnownWays {
    /// Takes what a round found, with the links of the same reading.
    pub fn take(&mut self, found: Ways, links: &Links, now: Instant) -> Changes {
        let mut changes = Changes::default();
        for (destination, way) in found {
            let before = self.reach(destination);
            match way {
                Ok(way) => {
                    if self.ways.insert(destination, way) != Some(way) {
                        changes.other.insert(destination);
                    }
                    self.troubles.remove(&destination);
                    if let Some(name) = links.name(way.next_hop.ifindex) {
                        self.interfaces.insert(destination, name.to_owned());
                    }
                }
                Err(reason) => self.trouble_with(destination, reason, links, now),
            }
            let after = self.reach(destination);
            if before != after {
                changes.reach.insert(destination, (before, after));
            }
        }
        changes
    }

    fn trouble_with(&mut self, destination: IpAddr, reason: Unresolved, links: &Links, now: Instant) {
        let reason = self.cause(destination, links).filter(|_| is_missing(&reason)).unwrap_or(reason);
        let loss = reason.loss();
        let trouble = self.troubles.entry(destination).or_insert_with(|| Trouble {
            reason: reason.clone(),
            loss,
            since: now,
        });
        if loss > trouble.loss {
            (trouble.loss, trouble.since) = (loss, now);
        }
        trouble.reason = reason;
    }

    /// The kernel removes the routes of an interface with it, or when it is set down: that is why they are not there.
    fn cause(&self, destination: IpAddr, links: &Links) -> Option<Unresolved> {
        let way = self.ways.get(&destination)?;
        match links.exit(way.next_hop.ifindex).err()? {
            Unresolved::NoInterface { .. } => {
                let interface = self.interfaces.get(&destination)?.clone();
                Some(Unresolved::Gone { interface })
            }
            cause => Some(cause),
        }
    }

    /// Ways to all that had one, lost ones as they were.
    #[must_use]
    pub const fn all(&self) -> &BTreeMap<IpAddr, Way> {
        &self.ways
    }

    #[must_use]
    pub fn trouble(&self, destination: IpAddr) -> Option<&Trouble> {
        self.troubles.get(&destination)
    }

    #[must_use]
    pub fn reach(&self, destination: IpAddr) -> Reach {
        let loss = self.troubles.get(&destination).and_then(|trouble| trouble.loss);
        match (self.ways.contains_key(&destination), loss) {
            (_, Some(Loss::Certain)) => Reach::Lost,
            (true, Some(Loss::Silent)) => Reach::Silent,
            (true, None) => Reach::Open,
            (false, Some(Loss::Silent) | None) => Reach::Unknown,
        }
    }

    /// Forgets the rest.
    pub fn keep_only(&mut self, destinations: &BTreeSet<IpAddr>) {
        self.ways.retain(|destination, _| destinations.contains(destination));
        self.interfaces.retain(|destination, _| destinations.contains(destination));
        self.troubles.retain(|destination, _| destinations.contains(destination));
    }
}

const fn is_missing(reason: &Unresolved) -> bool {
    matches!(reason, Unresolved::NoRoute(_) | Unresolved::NoInterface { .. })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a first instant to count from")]
mod tests {
    use std::time::Duration;

    use lb_common::backend::NextHop;
    use proptest::prelude::*;

    use super::*;
    use crate::net::links::Link;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));

    fn way(last: u8) -> Way {
        let destination = [2, 0, 0, 0, 0, last];
        let next_hop = NextHop { destination, source: [2, 0, 0, 0, 0, 1], ifindex: 2, tags: 0 };
        Way { next_hop, mtu: 1500, source: IpAddr::from([10, 0, 0, 1]) }
    }

    fn eth1(up: bool) -> Links {
        let name = "eth1".to_owned();
        let link = Link { index: 2, name, mac: Some([2, 0, 0, 0, 0, 1]), mtu: 1500, up, below: None };
        Links::from_iter([link])
    }

    fn silent(failed: bool) -> Unresolved {
        Unresolved::NoNeighbour { via: SERVER, failed }
    }

    fn no_route() -> Unresolved {
        Unresolved::NoRoute("the routing table has none".to_owned())
    }

    /// Ways on a simulated clock, a second a round.
    struct World {
        known: KnownWays,
        began: Instant,
        rounds: u64,
    }

    impl World {
        fn new() -> Self {
            Self { known: KnownWays::default(), began: Instant::now(), rounds: 0 }
        }

        fn take(&mut self, found: Result<Way, Unresolved>, links: &Links) -> Changes {
            self.rounds += 1;
            let now = self.began + Duration::from_secs(self.rounds);
            self.known.take(Ways::from([(SERVER, found)]), links, now)
        }

        /// What the way to the server is after a round, and what is wrong.
        fn round(&mut self, found: Result<Way, Unresolved>, links: &Links) -> (Reach, Option<String>) {
            self.take(found, links);
            let trouble = self.known.trouble(SERVER).map(|trouble| trouble.reason.to_string());
            (self.known.reach(SERVER), trouble)
        }

        fn since(&self) -> u64 {
            (self.known.trouble(SERVER).unwrap().since - self.began).as_secs()
        }
    }

    fn why(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_way_is_lost_with_its_route_or_its_link_and_back_when_it_is_found_again() {
        let mut world = World::new();
        assert_eq!(world.round(Ok(way(5)), &eth1(true)), (Reach::Open, None));
        let no_longer = why("no route: the routing table has none");
        assert_eq!(world.round(Err(no_route()), &eth1(true)), (Reach::Lost, no_longer));
        assert_eq!(world.known.all()[&SERVER], way(5), "for the flows that go by it");
        assert_eq!(world.round(Ok(way(5)), &eth1(true)), (Reach::Open, None));
        // The kernel took the route away with the link.
        let down = why("its interface eth1 is down, or has no carrier");
        assert_eq!(world.round(Err(no_route()), &eth1(false)), (Reach::Lost, down));
        let gone = why("its interface eth1 is gone");
        assert_eq!(world.round(Err(no_route()), &Links::default()), (Reach::Lost, gone));
        assert_eq!(world.round(Ok(way(6)), &eth1(true)), (Reach::Open, None));
    }

    #[test]
    fn a_way_that_is_lost_is_so_until_its_neighbour_has_answered() {
        let mut world = World::new();
        world.round(Ok(way(5)), &eth1(true));
        world.round(Err(no_route()), &eth1(false));
        let asked = why("10.0.0.5 does not answer ARP");
        for failed in [false, true, false] {
            assert_eq!(world.round(Err(silent(failed)), &eth1(true)), (Reach::Lost, asked.clone()));
        }
        assert_eq!(world.since(), 2, "of the loss");
        assert_eq!(world.round(Ok(way(5)), &eth1(true)).0, Reach::Open);
    }

    #[test]
    fn a_neighbour_that_is_asked_for_again_keeps_its_address_until_it_has_failed_to_answer() {
        let mut world = World::new();
        world.round(Ok(way(5)), &eth1(true));
        for _ in 0..5 {
            assert_eq!(world.round(Err(silent(false)), &eth1(true)).0, Reach::Open);
        }
        assert_eq!(world.round(Err(silent(true)), &eth1(true)).0, Reach::Silent);
        // The kernel asks again, for as long as it takes.
        assert_eq!(world.round(Err(silent(false)), &eth1(true)).0, Reach::Silent);
        assert_eq!((world.since(), world.known.all()[&SERVER]), (7, way(5)));
        assert_eq!(world.round(Ok(way(7)), &eth1(true)).0, Reach::Open);
    }

    #[test]
    fn what_the_kernel_does_not_say_changes_nothing() {
        let mut world = World::new();
        world.round(Ok(way(5)), &eth1(true));
        for reason in [Unresolved::Unread("no memory".to_owned()), Unresolved::NoSource] {
            assert_eq!(world.round(Err(reason), &eth1(true)).0, Reach::Open);
        }
    }

    #[test]
    fn what_never_had_a_way_is_not_known_unless_there_can_be_none() {
        let mut world = World::new();
        assert_eq!(world.known.reach(SERVER), Reach::Unknown);
        assert_eq!(world.round(Err(silent(false)), &eth1(true)).0, Reach::Unknown);
        assert_eq!(world.round(Err(silent(true)), &eth1(true)).0, Reach::Unknown);
        assert_eq!(world.round(Err(no_route()), &eth1(false)).0, Reach::Lost);
        world.known.keep_only(&BTreeSet::new());
        assert_eq!((world.known.reach(SERVER), world.known.trouble(SERVER)), (Reach::Unknown, None));
    }

    #[test]
    fn a_round_tells_what_it_changed_and_nothing_else() {
        let mut world = World::new();
        let first = world.take(Ok(way(5)), &eth1(true));
        assert_eq!((first.other.len(), first.reach[&SERVER]), (1, (Reach::Unknown, Reach::Open)));
        assert!(world.take(Ok(way(5)), &eth1(true)).is_empty());
        let other = world.take(Ok(way(6)), &eth1(true));
        assert!(other.other.contains(&SERVER) && other.reach.is_empty());
        assert!(world.take(Err(silent(false)), &eth1(true)).is_empty());
        let lost = world.take(Err(no_route()), &eth1(true));
        assert_eq!(lost.reach[&SERVER], (Reach::Open, Reach::Lost));
        assert!(world.take(Err(no_route()), &eth1(false)).is_empty());
    }

    fn any_round() -> impl Strategy<Value = Result<Way, Unresolved>> {
        prop_oneof![
            (0_u8..3).prop_map(|last| Ok(way(last))),
            any::<bool>().prop_map(|failed| Err(silent(failed))),
            Just(Err(no_route())),
            Just(Err(Unresolved::NoSource)),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_a_way_that_is_found_is_open_and_the_last_one_is_kept(
            rounds in prop::collection::vec((any_round(), any::<bool>()), 1..30),
        ) {
            let mut world = World::new();
            let mut last = None;
            for (found, up) in rounds {
                let is_way = found.is_ok();
                last = found.as_ref().ok().copied().or(last);
                let reach = world.round(found, &eth1(up)).0;
                prop_assert_eq!(world.known.all().get(&SERVER).copied(), last);
                prop_assert!(!is_way || reach == Reach::Open);
                prop_assert!(last.is_some() || matches!(reach, Reach::Unknown | Reach::Lost));
            }
        }
    }
}
