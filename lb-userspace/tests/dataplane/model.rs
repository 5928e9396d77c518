//! The forwarding rules written plainly, for [`super::random`] to hold the program against: ordered maps, no pointers,
//! no checksum arithmetic.

use std::collections::BTreeMap;

use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::fixture::{INSIDE_MAC, NODE_MAC, TUNNEL_SOURCE, backend_address, backend_mac};
use crate::packet::{ACK, FIN, IP, Mac, RST, SYN, outer_header};

pub(crate) type End = ([u8; 4], u16);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tuple {
    source: End,
    destination: End,
    protocol: u8,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    method: Method,
    backend: u32,
    /// FIN and RST it has shown.
    ended: u8,
    /// MAC addresses and so on of the client's last packet.
    hop: [u8; 12],
    /// For a reply: what the client knows as the source, and the MAC addresses of the way back.
    reply: Option<(End, Mac, Mac)>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) services: BTreeMap<End, Method>,
    /// The one backend in the table that all services use, and in the previous one.
    pub(crate) current: Option<u32>,
    pub(crate) previous: Option<u32>,
    pub(crate) serving: [bool; 3],
    flows: BTreeMap<Tuple, Flow>,
    half_open: BTreeMap<Tuple, Flow>,
}

struct Parsed<'a> {
    frame: &'a [u8],
    header: usize,
    tuple: Tuple,
    flags: u8,
}

impl Model {
    /// What happens to a frame, and the frame that leaves with all checksums zero, if one leaves.
    pub(crate) fn step(&mut self, frame: &[u8]) -> (Reason, Option<Vec<u8>>) {
        let packet = match parse(frame) {
            Ok(packet) => packet,
            Err(reason) => return (reason, None),
        };
        let Some(flow) = self.flows.get(&packet.tuple).copied() else {
            return self.miss(&packet);
        };
        if let Some((end, to, from)) = flow.reply {
            self.touch(&packet);
            return leave(&packet, Reason::Reply, |frame| back(frame, &packet, end, to, from));
        }
        let nat = flow.method == Method::Nat;
        let reply = reply_of(&packet.tuple, flow.backend);
        let by_backend = self.flows.get(&reply).map_or(RST, |reply| reply.ended);
        let reopened = packet.is_bare_syn() && nat && over(flow.ended, by_backend);
        if !self.serving[flow.backend as usize] || reopened {
            self.flows.remove(&packet.tuple);
            if nat {
                self.flows.remove(&reply);
            }
            return self.miss(&packet);
        }
        if flow.hop != packet.hop() {
            if packet.frame[..6] != NODE_MAC {
                return (Reason::OtherHost, None);
            }
            if let Some(flow) = self.flows.get_mut(&packet.tuple) {
                flow.hop = packet.hop();
            }
            if let Some(reply) = self.flows.get_mut(&reply)
                && nat
            {
                reply.reply = Some(packet.way_back());
            }
        }
        self.touch(&packet);
        leave(&packet, Reason::Flow, |frame| forth(frame, &packet, flow))
    }

    fn touch(&mut self, packet: &Parsed<'_>) {
        if let Some(flow) = self.flows.get_mut(&packet.tuple) {
            match packet.flags & (FIN | RST) {
                0 if packet.is_bare_syn() => flow.ended = 0,
                0 => flow.ended &= !RST,
                ending => flow.ended |= ending,
            }
        }
    }

    /// Whether another flow gets the replies; one that is over is forgotten.
    fn reply_taken(&mut self, packet: &Parsed<'_>, reply: &Tuple) -> bool {
        let Some(Flow { reply: Some((end, ..)), ended, .. }) = self.flows.get(reply).copied() else {
            return self.flows.contains_key(reply);
        };
        if end == packet.tuple.destination {
            return false;
        }
        let forward = forward_of(reply, end);
        let over = self.flows.get(&forward).is_none_or(|forward| over(forward.ended, ended));
        if over {
            self.flows.remove(&forward);
            self.flows.remove(reply);
        }
        !over
    }

    fn miss(&mut self, packet: &Parsed<'_>) -> (Reason, Option<Vec<u8>>) {
        let known = self.half_open.get(&packet.tuple).copied();
        let Some(method) = self.services.get(&packet.tuple.destination).copied() else {
            return match known.and_then(|flow| flow.reply) {
                Some((end, to, from)) => {
                    leave(packet, Reason::Reply, |frame| back(frame, packet, end, to, from))
                }
                None => (Reason::NoService, None),
            };
        };
        if packet.frame[..6] != NODE_MAC {
            return (Reason::OtherHost, None);
        }
        let known = known.filter(|flow| flow.reply.is_none());
        let serves = |backend: &u32| self.serving[*backend as usize];
        let current = self.current.filter(serves);
        let previous = self.previous.filter(serves);
        let midway = packet.tuple.protocol == 6 && !packet.is_bare_syn();
        let kept = known.map(|flow| flow.backend).filter(serves);
        let scheduled = if midway { previous.or(current) } else { current };
        let Some(backend) = kept.or(scheduled) else {
            return (Reason::NoBackend, None);
        };
        let moved = kept.is_none() && self.previous.is_some() && current != previous;
        let (ended, hop) = (packet.flags & (FIN | RST), packet.hop());
        let flow = Flow { method, backend, ended, hop, reply: None };
        match self.store(packet, flow, known.is_some(), moved) {
            Reason::ReplyTaken => (Reason::ReplyTaken, None),
            reason => leave(packet, reason, |frame| forth(frame, packet, flow)),
        }
    }

    fn store(&mut self, packet: &Parsed<'_>, flow: Flow, known: bool, moved: bool) -> Reason {
        let nat = flow.method == Method::Nat;
        let reply = reply_of(&packet.tuple, flow.backend);
        if nat && self.reply_taken(packet, &reply) {
            return Reason::ReplyTaken;
        }
        let halves = |table: &mut BTreeMap<Tuple, Flow>| {
            table.insert(packet.tuple, flow);
            if nat {
                table.insert(reply, Flow { reply: Some(packet.way_back()), ..flow });
            }
        };
        if packet.is_bare_syn() {
            if nat || moved {
                halves(&mut self.half_open);
            }
            return Reason::Opening;
        }
        if packet.flags & RST != 0 {
            return Reason::Untracked;
        }
        if !known {
            halves(&mut self.half_open);
            return Reason::Opening;
        }
        halves(&mut self.flows);
        self.half_open.remove(&packet.tuple);
        if nat {
            self.half_open.remove(&reply);
        }
        Reason::NewFlow
    }
}

fn over(forward: u8, reply: u8) -> bool {
    reply & RST != 0 || forward & reply & FIN != 0
}

impl Parsed<'_> {
    fn is_bare_syn(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    fn hop(&self) -> [u8; 12] {
        self.frame[..12].try_into().unwrap()
    }

    fn way_back(&self) -> (End, Mac, Mac) {
        let mac = |at: usize| self.frame[at..at + 6].try_into().unwrap();
        (self.tuple.destination, mac(6), mac(0))
    }
}

fn parse(frame: &[u8]) -> Result<Parsed<'_>, Reason> {
    let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    if word(12) != 0x0800 {
        return Err(Reason::NotIp);
    }
    if frame.len() < IP + 20 {
        return Err(Reason::Malformed);
    }
    let (version, header, total) = (frame[IP] >> 4, usize::from(frame[IP] & 15) * 4, word(IP + 2));
    if version != 4 || header < 20 || IP + total > frame.len() {
        return Err(Reason::Malformed);
    }
    if word(IP + 6) & 0x3fff != 0 {
        return Err(Reason::Fragment);
    }
    let (protocol, ports) = (frame[IP + 9], IP + header);
    let payload = total.checked_sub(header).ok_or(Reason::Malformed)?;
    let flags = match protocol {
        6 => {
            let offset = if payload < 20 { 0 } else { usize::from(frame[ports + 12] >> 4) * 4 };
            if offset < 20 || offset > payload {
                return Err(Reason::Malformed);
            }
            frame[ports + 13]
        }
        17 => {
            let length = if payload < 8 { 0 } else { word(ports + 4) };
            if length < 8 || length > payload {
                return Err(Reason::Malformed);
            }
            0
        }
        _ => return Err(Reason::OtherProtocol),
    };
    let address = |at: usize| frame[at..at + 4].try_into().unwrap();
    let tuple = Tuple {
        source: (address(IP + 12), word(ports) as u16),
        destination: (address(IP + 16), word(ports + 2) as u16),
        protocol,
    };
    Ok(Parsed { frame, header, tuple, flags })
}

fn backend_end(backend: u32) -> End {
    let address = backend_address(backend);
    (address.ip().octets(), address.port())
}

fn reply_of(forward: &Tuple, backend: u32) -> Tuple {
    Tuple { source: backend_end(backend), destination: forward.source, protocol: forward.protocol }
}

fn forward_of(reply: &Tuple, service: End) -> Tuple {
    Tuple { source: reply.destination, destination: service, protocol: reply.protocol }
}

/// The packet goes out if it has a hop left.
fn leave(
    packet: &Parsed<'_>,
    reason: Reason,
    rewrite: impl Fn(Vec<u8>) -> Vec<u8>,
) -> (Reason, Option<Vec<u8>>) {
    let mut frame = packet.frame.to_vec();
    if frame[IP + 8] < 2 {
        return (Reason::TtlExceeded, None);
    }
    frame[IP + 8] -= 1;
    (reason, Some(rewrite(frame)))
}

fn forth(mut frame: Vec<u8>, packet: &Parsed<'_>, flow: Flow) -> Vec<u8> {
    frame[..6].copy_from_slice(&backend_mac(flow.backend));
    frame[6..12].copy_from_slice(&INSIDE_MAC);
    let (address, port) = backend_end(flow.backend);
    if flow.method == Method::Nat {
        frame[IP + 16..IP + 20].copy_from_slice(&address);
        let ports = IP + packet.header;
        frame[ports + 2..ports + 4].copy_from_slice(&port.to_be_bytes());
    }
    if flow.method == Method::Tunnel {
        let inner = u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]);
        let outer = outer_header(inner, frame[IP + 1], TUNNEL_SOURCE, address.into());
        frame.splice(IP..IP, outer);
    }
    frame
}

fn back(mut frame: Vec<u8>, packet: &Parsed<'_>, service: End, to: Mac, from: Mac) -> Vec<u8> {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[IP + 12..IP + 16].copy_from_slice(&service.0);
    let ports = IP + packet.header;
    frame[ports..ports + 2].copy_from_slice(&service.1.to_be_bytes());
    frame
}
