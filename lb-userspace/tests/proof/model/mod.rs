//! The forwarding rules written plainly, for [`super::random`] to hold the program against: ordered maps, no pointers,
//! no checksum arithmetic. What the program is free to choose, a random backend and the port of a `fullnat` flow, is
//! taken from what it did, and it is held to that from then on.

mod choose;
mod out;
mod remember;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_common::reason::Reason;
use lb_common::service::{MOVED, Method, PER_PACKET, STATELESS, Scheduler};

use self::choose::entry_of;
use self::out::{back, forth};
use crate::frames::{ACK, FIN, Mac, RST, SYN};
use crate::ports::{self, Parsed};
use crate::world::{
    BACKENDS, INSIDE_MAC, KINDS, Kind, NODE_MAC, PORT, RANGED, RANGES, Seen, WITHIN, backend_ip, backend_mac,
    backend_number, backend_port, service_address,
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
        let mut known = known.filter(|half| asks && !by_table && half.reply.is_none());
        if known.is_some_and(|half| !self.serves(half.backend)) {
            self.half_open.remove(&packet.tuple);
            known = None;
        }
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

impl Parsed {
    pub(crate) fn is_bare_syn(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }
}
