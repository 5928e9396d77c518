//! The forwarding rules written plainly, for [`super::random`] to hold the program against: ordered maps, no pointers,
//! no checksum arithmetic. What the program is free to choose, a random backend and the port of a `fullnat` flow, is
//! taken from what it did, and it is held to that from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_common::addr::{Addr, Address as _, V4};
use lb_common::flow::{FlowKey, Ports};
use lb_common::hash::{flow_hash, source_hash, table_entry};
use lb_common::reason::Reason;
use lb_common::service::{MOVED, Method, PER_PACKET, STATELESS, Scheduler};

use crate::frames::{ACK, FIN, Mac, RST, SYN};
use crate::ports::{self, Parsed};
use crate::world::{
    BACKENDS, FIRST_PORT, INSIDE_MAC, KINDS, Kind, MIXED, NODE_MAC, PORT, PORTS, RANGED, RANGES, STILL, Seen,
    WITHIN, backend_ip, backend_mac, backend_number, backend_port, backend_tags, pool, service_address,
};

/// A packet by its ends and protocol number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tuple {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) protocol: u8,
}

/// Where a frame goes: MAC addresses and tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    /// As [`lb_common::backend::tags`].
    pub(crate) tags: u32,
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy)]
struct Half {
    method: Method,
    backend: u32,
    /// FIN and RST it has shown.
    ended: u8,
    /// Of `fullnat`: what the backend knows as the client.
    given: Option<SocketAddr>,
    /// Of a reply: the ends as the client knows them, the service first, and the way to it.
    reply: Option<(SocketAddr, SocketAddr, Hop)>,
}

/// A frame that leaves, with the checksums it came with.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) hop: Hop,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// The backend at the end of a tunnel.
    pub(crate) tunnel: Option<u32>,
}

pub(crate) struct Model {
    /// Of [`crate::world::World::turn`].
    pub(crate) current: Option<u32>,
    pub(crate) previous: Option<u32>,
    pub(crate) serving: [bool; BACKENDS as usize],
    flows: BTreeMap<Tuple, Half>,
    half_open: BTreeMap<Tuple, Half>,
    /// Flows that have shown a packet.
    shown: BTreeSet<Tuple>,
}

type Verdict = (Reason, Option<Out>);

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            current: Some(0),
            previous: None,
            serving: [true; BACKENDS as usize],
            flows: BTreeMap::new(),
            half_open: BTreeMap::new(),
            shown: BTreeSet::new(),
        }
    }

    /// What the backend of a flow, or of one that is opening, knows as its client.
    pub(crate) fn client(&self, tuple: &Tuple) -> SocketAddr {
        let known = self.flows.get(tuple).or_else(|| self.half_open.get(tuple));
        known.and_then(|half| half.given).unwrap_or(tuple.source)
    }

    /// The backend of a flow, or of one that is opening.
    pub(crate) fn backend(&self, tuple: &Tuple) -> Option<u32> {
        self.flows.get(tuple).or_else(|| self.half_open.get(tuple)).map(|half| half.backend)
    }

    /// Whether the frame is dropped after something was chosen for its flow that the model can't tell.
    pub(crate) fn hides(&self, frame: &[u8]) -> bool {
        let Ok(packet) = ports::parse(frame) else { return false };
        let free = service_of(&packet.tuple).is_some_and(|(kind, _)| {
            kind.method == Method::FullNat || !Scheduler::is_hash(kind.scheduler as u8)
        });
        free && packet.ttl < 2
    }

    /// What happens to a frame, and what leaves, if a frame leaves. `seen` is what the program did.
    pub(crate) fn step(&mut self, frame: &[u8], seen: &Seen) -> Verdict {
        let packet = match ports::parse(frame) {
            Ok(packet) => packet,
            Err(reason) => return (reason, None),
        };
        if packet.flags & SYN != 0 {
            let stateless = if packet.is_bare_syn() { self.stateless(&packet) } else { None };
            return stateless.unwrap_or_else(|| self.miss(&packet, seen, false));
        }
        let Some(half) = self.flows.get(&packet.tuple).copied() else {
            return self.miss(&packet, seen, false);
        };
        if !is_ours(&packet) {
            return (Reason::OtherHost, None);
        }
        if let Some((service, client, hop)) = half.reply {
            self.touch(&packet);
            return back(&packet, service, client, hop);
        }
        if !self.serves(half.backend) {
            return self.miss(&packet, seen, true);
        }
        if half.method == Method::Nat || half.method == Method::FullNat {
            let reply = reply_of(&packet.tuple, &half);
            if let Some(Half { reply: Some((.., hop)), .. }) = self.flows.get_mut(&reply) {
                *hop = packet.way_back();
            }
        }
        self.touch(&packet);
        forth(&packet, Reason::Flow, &half)
    }

    fn touch(&mut self, packet: &Parsed) {
        let anew = self.shown.contains(&packet.tuple);
        let Some(half) = self.flows.get_mut(&packet.tuple) else { return };
        match packet.flags & (FIN | RST) {
            0 if half.reply.is_none() && half.ended & FIN != 0 && anew => half.ended = 0,
            0 => half.ended &= !RST,
            ending => half.ended |= ending,
        }
    }

    /// A SYN of a service whose table decides.
    fn stateless(&mut self, packet: &Parsed) -> Option<Verdict> {
        let (kind, v6) = service_of(&packet.tuple)?;
        if kind.flags & STATELESS == 0 || !is_ours(packet) {
            return None;
        }
        let backend = backend_number(kind.reach, v6, entry_of(&packet.tuple, kind.scheduler) % BACKENDS);
        if !self.serves(backend) {
            return None;
        }
        self.shown.insert(packet.tuple);
        Some(forth(packet, Reason::Opening, &half(kind, backend, 0)))
    }

    fn miss(&mut self, packet: &Parsed, seen: &Seen, lost: bool) -> Verdict {
        let Some((kind, v6)) = service_of(&packet.tuple) else {
            return if lost { (Reason::NoBackend, None) } else { self.half_open_reply(packet) };
        };
        if !is_ours(packet) {
            return (Reason::OtherHost, None);
        }
        if lost {
            self.forget(&packet.tuple);
        }
        let per_packet = kind.flags & PER_PACKET != 0;
        let by_table = Scheduler::is_hash(kind.scheduler as u8)
            && kind.flags & MOVED == 0
            && (kind.method == Method::Tunnel || kind.method == Method::Direct);
        let asks = !(per_packet || by_table && packet.is_bare_syn());
        if asks
            && packet.flags & SYN != 0
            && let Some(flow) = self.recall(&packet.tuple)
        {
            return forth(packet, Reason::Flow, &flow);
        }
        let known = self.half_open.get(&packet.tuple).copied();
        let known =
            known.filter(|half| asks && !by_table && half.reply.is_none() && self.serves(half.backend));
        let mut flow = match known {
            Some(known) => Half { ended: packet.flags & (FIN | RST), ..known },
            None => match self.choose(packet, seen, kind, v6) {
                Some(index) => half(kind, backend_number(kind.reach, v6, index), packet.flags & (FIN | RST)),
                None => return (Reason::NoBackend, None),
            },
        };
        if per_packet {
            self.half_open.insert(reply_of(&packet.tuple, &flow), reply_half(packet, &flow));
            return forth(packet, Reason::PerPacket, &flow);
        }
        match self.store(packet, seen, &mut flow, kind, known.is_some()) {
            reason @ (Reason::ReplyTaken | Reason::NoService) => (reason, None),
            reason => forth(packet, reason, &flow),
        }
    }

    /// The flow that a SYN is of, unless it is over.
    fn recall(&mut self, tuple: &Tuple) -> Option<Half> {
        let flow = self.flows.get(tuple).copied().filter(|flow| flow.reply.is_none())?;
        let mut ended = !self.serves(flow.backend);
        if flow.method == Method::Nat || flow.method == Method::FullNat {
            let reply = self.flows.get(&reply_of(tuple, &flow)).map(|reply| reply.ended);
            ended |= reply.is_none_or(|reply| over(flow.ended, reply));
        }
        if ended {
            self.forget(tuple);
            return None;
        }
        if let Some(flow) = self.flows.get_mut(tuple) {
            flow.ended = 0;
        }
        Some(flow)
    }

    fn forget(&mut self, tuple: &Tuple) {
        if let Some(flow) = self.flows.remove(tuple)
            && (flow.method == Method::Nat || flow.method == Method::FullNat)
        {
            self.flows.remove(&reply_of(tuple, &flow));
        }
    }

    /// Place of the scheduler's choice among the backends of the service.
    fn choose(&self, packet: &Parsed, seen: &Seen, kind: Kind, v6: bool) -> Option<u32> {
        let serves = |index: &u32| self.serving[*index as usize];
        let still = KINDS[STILL].flags == kind.flags;
        let (current, previous) = if still { (Some(MIXED), None) } else { (self.current, self.previous) };
        if !Scheduler::is_hash(kind.scheduler as u8) {
            let chosen = (0..BACKENDS).find(|index| seen.chose(backend_number(kind.reach, v6, *index)));
            let may =
                |index: &u32| serves(index) && current.is_some_and(|table| table == MIXED || table == *index);
            if let Some(chosen) = chosen {
                return Some(chosen).filter(may);
            }
            // It found one that does not serve, if there is one, or was dropped for another reason, if there is none.
            let all =
                (0..BACKENDS).filter(|index| current.is_some_and(|table| table == MIXED || table == *index));
            let some_fails = all.clone().any(|index| !serves(&index)) || current.is_none();
            let taken = |index: &u32| {
                let flow = half(kind, backend_number(kind.reach, v6, *index), 0);
                self.is_taken(packet, &reply_of(&packet.tuple, &flow))
            };
            return match seen.reason {
                Reason::NoBackend if some_fails => None,
                Reason::ReplyTaken => all.clone().filter(serves).find(taken),
                _ => all.clone().find(serves),
            };
        }
        let entry = entry_of(&packet.tuple, kind.scheduler) % BACKENDS;
        let pick =
            |table: Option<u32>| table.map(|table| if table == MIXED { entry } else { table }).filter(serves);
        let (current, previous) = (pick(current), pick(previous));
        let midway = packet.tuple.protocol == 6 || self.shown.contains(&packet.tuple);
        if midway && !packet.is_bare_syn() { previous.or(current) } else { current }
    }

    /// Whether the table of hash schedulers moves this flow.
    fn moves(&self, packet: &Parsed, kind: Kind) -> bool {
        let entry = entry_of(&packet.tuple, kind.scheduler) % BACKENDS;
        let pick = |table: Option<u32>| {
            let index = table.map(|table| if table == MIXED { entry } else { table });
            index.filter(|index| self.serving[*index as usize])
        };
        self.previous.is_some() && pick(self.current) != pick(self.previous)
    }

    fn store(&mut self, packet: &Parsed, seen: &Seen, flow: &mut Half, kind: Kind, known: bool) -> Reason {
        let (nat, full) = (flow.method == Method::Nat, flow.method == Method::FullNat);
        if nat && self.reply_taken(packet, &reply_of(&packet.tuple, flow)) {
            return Reason::ReplyTaken;
        }
        if packet.flags & RST != 0 {
            return if full && !known { Reason::NoService } else { Reason::Untracked };
        }
        if full && !self.keeps_port(packet, flow) {
            flow.given = Some(self.new_port(packet, seen, flow));
        }
        let reply = reply_of(&packet.tuple, flow);
        let back = reply_half(packet, flow);
        if !packet.is_bare_syn() && (known || self.shown.contains(&packet.tuple)) {
            self.flows.insert(packet.tuple, *flow);
            if nat || full {
                self.flows.insert(reply, back);
                self.half_open.remove(&reply);
            }
            self.half_open.remove(&packet.tuple);
            self.shown.remove(&packet.tuple);
            return Reason::NewFlow;
        }
        self.shown.insert(packet.tuple);
        if nat || full {
            self.half_open.insert(reply, back);
        }
        let scheduled = !Scheduler::is_hash(kind.scheduler as u8) || self.moves(packet, kind);
        if full || !known && scheduled && kind.flags & STATELESS == 0 {
            self.half_open.insert(packet.tuple, *flow);
        }
        Reason::Opening
    }

    /// Whether the port that a `fullnat` flow was given while it opened is still kept for it.
    fn keeps_port(&self, packet: &Parsed, flow: &Half) -> bool {
        flow.given.is_some()
            && self.half_open.get(&reply_of(&packet.tuple, flow)).is_some_and(|half| {
                half.reply.is_some_and(|(service, client, _)| {
                    (service, client) == (packet.tuple.destination, packet.tuple.source)
                })
            })
    }

    /// The port that the program gave a flow, which must be one that nobody else has.
    fn new_port(&self, packet: &Parsed, seen: &Seen, flow: &Half) -> SocketAddr {
        let given = ports::source_of(&seen.frame).unwrap();
        let v6 = packet.tuple.source.is_ipv6();
        assert!(
            pool(v6).contains(&given.ip()) && (FIRST_PORT..FIRST_PORT + PORTS).contains(&given.port()),
            "{given}"
        );
        let reply = reply_of(&packet.tuple, &Half { given: Some(given), ..*flow });
        assert!(
            !self.flows.contains_key(&reply) && !self.half_open.contains_key(&reply),
            "{given} is another flow's"
        );
        given
    }

    /// Whether another flow gets the replies; one that is over is forgotten.
    fn reply_taken(&mut self, packet: &Parsed, reply: &Tuple) -> bool {
        let taken = self.is_taken(packet, reply);
        if !taken && let Some(Half { reply: Some((end, client, _)), .. }) = self.flows.remove(reply) {
            self.flows.remove(&Tuple { source: client, destination: end, protocol: reply.protocol });
        }
        taken
    }

    fn is_taken(&self, packet: &Parsed, reply: &Tuple) -> bool {
        let Some(Half { reply: Some((end, client, _)), ended, .. }) = self.flows.get(reply).copied() else {
            return false;
        };
        let forward = Tuple { source: client, destination: end, protocol: reply.protocol };
        end != packet.tuple.destination
            && self.flows.get(&forward).is_some_and(|forward| !over(forward.ended, ended))
    }

    fn half_open_reply(&mut self, packet: &Parsed) -> Verdict {
        let known =
            self.flows.get(&packet.tuple).filter(|_| packet.flags & SYN != 0).and_then(|half| half.reply);
        if let Some((service, client, hop)) = known {
            if !is_ours(packet) {
                return (Reason::OtherHost, None);
            }
            self.touch(packet);
            return back(packet, service, client, hop);
        }
        match self.half_open.get(&packet.tuple).and_then(|half| half.reply) {
            None => (Reason::NoService, None),
            Some(_) if !is_ours(packet) => (Reason::OtherHost, None),
            Some((service, client, hop)) => back(packet, service, client, hop),
        }
    }

    fn serves(&self, backend: u32) -> bool {
        self.serving[(backend % BACKENDS) as usize]
    }
}

impl Seen {
    /// Whether the frame went to that backend.
    fn chose(&self, backend: u32) -> bool {
        self.frame[..6] == backend_mac(backend)
    }
}

fn half(kind: Kind, backend: u32, ended: u8) -> Half {
    Half { method: kind.method, backend, ended, given: None, reply: None }
}

fn reply_half(packet: &Parsed, flow: &Half) -> Half {
    Half {
        reply: Some((packet.tuple.destination, packet.tuple.source, packet.way_back())),
        ended: 0,
        ..*flow
    }
}

fn over(forward: u8, reply: u8) -> bool {
    reply & RST != 0 || forward & reply & FIN != 0
}

fn is_ours(packet: &Parsed) -> bool {
    [NODE_MAC, INSIDE_MAC].contains(&packet.to)
}

fn backend_end(tuple: &Tuple, backend: u32) -> SocketAddr {
    SocketAddr::new(backend_ip(backend), backend_port(backend, tuple.destination.port()))
}

fn reply_of(tuple: &Tuple, flow: &Half) -> Tuple {
    let destination = flow.given.unwrap_or(tuple.source);
    Tuple { source: backend_end(tuple, flow.backend), destination, protocol: tuple.protocol }
}

/// The service that a packet is for, and its family.
fn service_of(tuple: &Tuple) -> Option<(Kind, bool)> {
    let (to, v6) = (tuple.destination, tuple.destination.is_ipv6());
    let service = (0..KINDS.len()).find(|service| service_address(*service, v6) == to.ip())?;
    let number = if service != RANGED {
        (to.port() == PORT).then_some(service)
    } else if to.port() == WITHIN.0 {
        Some(WITHIN.1)
    } else {
        RANGES.iter().any(|(first, last)| (*first..=*last).contains(&to.port())).then_some(service)
    };
    number.map(|service| (KINDS[service], v6))
}

/// Both nodes of a pair must agree on it, so the hash is part of the rules.
fn entry_of(tuple: &Tuple, scheduler: Scheduler) -> u32 {
    let ports = Ports { source: tuple.source.port().to_be(), destination: tuple.destination.port().to_be() };
    let protocol = u32::from(tuple.protocol);
    let (source, destination) = (Addr::from(tuple.source.ip()), Addr::from(tuple.destination.ip()));
    let hashes = match tuple.source.ip() {
        IpAddr::V4(_) => {
            let (source, destination) = (V4::from_mapped(source), V4::from_mapped(destination));
            [flow_hash(&FlowKey { source, destination, ports, protocol }) >> 32, source_hash(source).into()]
        }
        IpAddr::V6(_) => {
            [flow_hash(&FlowKey { source, destination, ports, protocol }) >> 32, source_hash(source).into()]
        }
    };
    table_entry(hashes[usize::from(scheduler == Scheduler::Source)] as u32)
}

/// To the backend, if a hop is left.
fn forth(packet: &Parsed, reason: Reason, flow: &Half) -> Verdict {
    if packet.ttl < 2 {
        return (Reason::TtlExceeded, None);
    }
    let (mut source, mut destination, mut tunnel) = (packet.tuple.source, packet.tuple.destination, None);
    match flow.method {
        Method::Nat | Method::FullNat => {
            destination = backend_end(&packet.tuple, flow.backend);
            source = flow.given.unwrap_or(source);
        }
        Method::Tunnel => tunnel = Some(flow.backend),
        Method::Direct => {}
    }
    let hop = Hop { to: backend_mac(flow.backend), from: INSIDE_MAC, tags: backend_tags(flow.backend) };
    (reason, Some(Out { hop, source, destination, tunnel }))
}

/// To the client, if a hop is left.
fn back(packet: &Parsed, service: SocketAddr, client: SocketAddr, hop: Hop) -> Verdict {
    if packet.ttl < 2 {
        return (Reason::TtlExceeded, None);
    }
    (Reason::Reply, Some(Out { hop, source: service, destination: client, tunnel: None }))
}

impl Parsed {
    pub(crate) fn is_bare_syn(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }
}
