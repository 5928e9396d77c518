//! Nodes with clocks of their own, and the network between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::random::Random;
use crate::config::model::{Preempt, Priority, Version, Vrid};
use crate::status::InstanceState;
use crate::vrrp::machine::{
    Action, Channel, Config, Event, Family, Heard, Interface, Machine, Peer, Tracking,
};

pub(super) const INTERVAL: Duration = Duration::from_millis(100);
pub(super) const MAX_DELAY: Duration = Duration::from_millis(20);
/// From the wish for the addresses to their being there, in a pair.
const MAX_TAKE: Duration = Duration::from_millis(15);
pub(super) const MAX_PREEMPT_DELAY: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Link {
    /// In order, as a switch delivers.
    Whole,
    /// Percent lost, percent doubled; out of order.
    Bad(u64, u64),
    Cut,
}

pub(super) struct Node {
    pub(super) config: Config,
    pub(super) machine: Option<Machine>,
    pub(super) holds: bool,
    /// Since when what it holds is answered for.
    serves_from: Duration,
    /// Its host stands still: no timer runs out, and what is sent to it is lost.
    pub(super) frozen: bool,
    /// By channel; a machine that starts sees the same.
    pub(super) down: Vec<bool>,
    pub(super) tracking: Tracking,
    /// Of its clock, in thousandths of the world's.
    speed: u32,
}

impl Node {
    pub(super) fn is_healthy(&self) -> bool {
        self.machine
            .as_ref()
            .is_some_and(|machine| !machine.handing_over() && machine.state() != InstanceState::Fault)
    }

    pub(super) fn priority(&self) -> Option<u8> {
        Some(self.machine.as_ref()?.effective_priority().as_u8())
    }

    /// Who has the higher one differs between the families.
    fn address(index: usize, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + index as u8)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9 - index as u16)),
        }
    }
}

pub(super) struct World {
    /// Since the start, by no node's clock.
    pub(super) now: Duration,
    epoch: Instant,
    pub(super) random: Random,
    pub(super) nodes: Vec<Node>,
    /// From, to, channel; whole where there is none.
    pub(super) links: BTreeMap<(usize, usize, usize), Link>,
    /// By time of arrival, and a number that keeps equal times in order.
    in_flight: BTreeMap<(Duration, u64), (usize, usize, Heard)>,
    /// Arrival of the last one on each link.
    arrived: BTreeMap<(usize, usize, usize), Duration>,
    sent: u64,
    pub(super) transitions: u64,
    pub(super) trace: Vec<(Duration, usize, Action)>,
    /// Whether a moment without a master is a mistake.
    pub(super) must_serve: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let nodes = 2 + random.index(2);
        let channels = 1 + random.index(3);
        let nodes = (0..nodes).map(|_| Self::node(channels, &mut random)).collect();
        Self {
            now: Duration::ZERO,
            epoch: Instant::now(),
            random,
            nodes,
            links: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            arrived: BTreeMap::new(),
            sent: 0,
            transitions: 0,
            trace: Vec::new(),
            must_serve: false,
        }
    }

    fn node(channels: usize, random: &mut Random) -> Node {
        let preempt = random.pick(&[
            Preempt::After(Duration::ZERO),
            Preempt::After(Duration::ZERO),
            Preempt::After(MAX_PREEMPT_DELAY),
            Preempt::Never,
        ]);
        let config = Config {
            // Few values, so that equal ones are common.
            priority: Priority::new(random.pick(&[1, 100, 100, 150, 254, 255])).unwrap(),
            preempt,
            channels: (0..channels).map(|index| Self::channel(index, random)).collect(),
            announce_every: random.chance(20).then_some(INTERVAL),
        };
        Node {
            config,
            machine: None,
            holds: false,
            serves_from: Duration::ZERO,
            frozen: false,
            down: vec![false; channels],
            tracking: Tracking::default(),
            speed: 950 + random.below(101) as u32,
        }
    }

    fn channel(index: usize, random: &mut Random) -> Channel {
        Channel {
            interface: format!("eth{index}"),
            vrid: Vrid::new(1).unwrap(),
            family: if index == 1 { Family::V6 } else { Family::V4 },
            version: Version::V3,
            // Nodes may differ: intervals are learned.
            interval: random.pick(&[INTERVAL, INTERVAL, INTERVAL / 2]),
        }
    }

    /// What the node's clock says.
    pub(super) fn clock(&self, index: usize) -> Instant {
        self.epoch + self.now * self.nodes[index].speed / 1_000
    }

    /// When the node's machine is next due.
    fn due(&self, index: usize) -> Option<Duration> {
        let node = &self.nodes[index];
        if node.frozen {
            return None;
        }
        let due = node.machine.as_ref()?.poll_timeout()?.saturating_duration_since(self.epoch);
        // Rounded up, so that its clock has got there.
        Some(due * 1_000 / node.speed + Duration::from_nanos(2))
    }

    pub(super) fn start_node(&mut self, index: usize) {
        if self.nodes[index].machine.is_some() {
            return;
        }
        self.nodes[index].machine = Some(Machine::new(self.nodes[index].config.clone()));
        let tracking = self.nodes[index].tracking.clone();
        self.event(index, Event::Tracking(tracking));
        for channel in 0..self.nodes[index].config.channels.len() {
            self.look_at_interface(index, channel);
        }
    }

    pub(super) fn set_interface(&mut self, index: usize, channel: usize, down: bool) {
        if let Some(was) = self.nodes[index].down.get_mut(channel) {
            *was = down;
        }
        self.look_at_interface(index, channel);
    }

    fn look_at_interface(&mut self, index: usize, channel: usize) {
        let node = &self.nodes[index];
        let Some(configured) = node.config.channels.get(channel) else { return };
        let interface = if node.down[channel] {
            Interface::Down
        } else {
            Interface::Up { primary: Node::address(index, configured.family) }
        };
        self.event(index, Event::Interface { channel, interface });
    }

    pub(super) fn track(&mut self, index: usize, tracking: Tracking) {
        self.nodes[index].tracking = tracking.clone();
        self.event(index, Event::Tracking(tracking));
    }

    /// As by `kill -9` and a guard: no last word.
    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].machine = None;
        self.nodes[index].holds = false;
    }

    pub(super) fn reconfigure(&mut self, index: usize, change: impl FnOnce(&mut Config)) {
        let now = self.clock(index);
        let node = &mut self.nodes[index];
        change(&mut node.config);
        if let Some(machine) = &mut node.machine {
            machine.reconfigure(node.config.clone(), now);
        }
        self.settle(index);
    }

    /// The last channel goes, or comes back.
    pub(super) fn change_channels(&mut self, index: usize) {
        let node = &self.nodes[index];
        let (channels, most) = (node.config.channels.len(), node.down.len());
        if channels > 1 && (channels == most || self.random.chance(50)) {
            self.reconfigure(index, |config| config.channels.truncate(channels - 1));
        } else if channels < most {
            let channel = Self::channel(channels, &mut self.random);
            self.reconfigure(index, |config| config.channels.push(channel));
            self.look_at_interface(index, channels);
        }
    }

    pub(super) fn event(&mut self, index: usize, event: Event) {
        let now = self.clock(index);
        if let Some(machine) = &mut self.nodes[index].machine {
            machine.handle_event(event, now);
        }
        self.settle(index);
    }

    fn settle(&mut self, index: usize) {
        while let Some(action) = self.nodes[index].machine.as_mut().and_then(Machine::poll_action) {
            match action {
                Action::SendAdvert { channel, priority } => self.send(index, channel, priority),
                Action::TakeAddresses => self.take_addresses(index),
                Action::ReleaseAddresses => self.nodes[index].holds = false,
                Action::Transition { .. } => self.transitions += 1,
                Action::Announce | Action::SecondMaster(_) => {}
            }
            self.trace.push((self.now, index, action));
        }
        let node = &mut self.nodes[index];
        let is_master = node.machine.as_ref().is_some_and(|machine| machine.state() == InstanceState::Master);
        let lets_go = node.machine.as_ref().and_then(Machine::releases_at);
        assert_eq!(
            node.holds,
            is_master || lets_go.is_some(),
            "only a master holds the addresses, and who was one just now"
        );
        if node.machine.as_ref().is_some_and(Machine::stopped) {
            node.machine = None;
        }
        let serves = |node: &Node| node.holds && node.serves_from <= self.now;
        assert!(!self.must_serve || self.nodes.iter().any(serves), "a moment in which nobody serves");
    }

    fn take_addresses(&mut self, index: usize) {
        // Of three nodes two may take over together, and the loser lets go as soon as it hears the winner (RFC 9568 section
        // 6.4.3), ready or not.
        let is_pair = self.nodes.len() == 2;
        let ready = self.now + if is_pair { self.random.duration(MAX_TAKE) } else { Duration::ZERO };
        let node = &mut self.nodes[index];
        if !std::mem::replace(&mut node.holds, true) {
            node.serves_from = ready;
        }
    }

    fn send(&mut self, from: usize, channel: usize, priority: u8) {
        let Channel { family, interval, .. } = self.nodes[from].config.channels[channel];
        let peer = Peer { address: Node::address(from, family), priority };
        let heard = Heard { from: peer, interval };
        if self.nodes[from].down[channel] {
            return;
        }
        for to in (0..self.nodes.len()).filter(|&to| to != from) {
            let way = (from, to, channel);
            let link = self.links.get(&way).copied().unwrap_or(Link::Whole);
            let copies = match link {
                Link::Whole => 1,
                Link::Bad(loss, _) if self.random.chance(loss) => 0,
                Link::Bad(_, doubled) => 1 + u64::from(self.random.chance(doubled)),
                Link::Cut => 0,
            };
            for _ in 0..copies {
                self.sent += 1;
                let mut arrival = self.now + self.random.duration(MAX_DELAY);
                let last = self.arrived.entry(way).or_default();
                if link == Link::Whole {
                    arrival = arrival.max(*last);
                }
                *last = arrival.max(*last);
                self.in_flight.insert((arrival, self.sent), (to, channel, heard));
            }
        }
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.in_flight.first_key_value().map(|(&(at, _), _)| at);
            let timer = (0..self.nodes.len()).filter_map(|index| Some((self.due(index)?, index))).min();
            let next = [arrival, timer.map(|(at, _)| at)].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            // As the driver does: what was heard counts before a timer.
            if arrival == Some(next) {
                self.deliver();
            } else if let Some((_, index)) = timer {
                let now = self.clock(index);
                if let Some(machine) = &mut self.nodes[index].machine {
                    machine.handle_timeout(now);
                    assert!(machine.poll_timeout().is_none_or(|due| due > now), "a timeout that stays due");
                }
                self.settle(index);
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        let (_, (to, channel, heard)) = self.in_flight.pop_first().expect("something is in flight");
        if !self.nodes[to].down[channel] && !self.nodes[to].frozen {
            self.event(to, Event::Advert { channel, heard });
        }
    }

    pub(super) fn masters(&self) -> Vec<usize> {
        let is_master = |machine: &Machine| machine.state() == InstanceState::Master;
        (0..self.nodes.len())
            .filter(|&index| self.nodes[index].machine.as_ref().is_some_and(is_master))
            .collect()
    }

    pub(super) fn healthy(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_healthy())
    }

    pub(super) fn ways(&self) -> Vec<(usize, usize, usize)> {
        let channels = self.nodes[0].down.len();
        let pairs = (0..self.nodes.len()).flat_map(|from| (0..self.nodes.len()).map(move |to| (from, to)));
        pairs.flat_map(|(from, to)| (0..channels).map(move |channel| (from, to, channel))).collect()
    }
}
