//! Frames of every kind, flipped, cut, stretched and grafted onto each other, and what must hold of any frame.
//!
//! A batch of frames comes from one seed. How long it goes on, and the seed of the first batch, are
//! `EVENKEEL_FUZZ_SECONDS` and `EVENKEEL_FUZZ_SEED`: `cargo xtask fuzz` sets them. A failure names the seed of its batch;
//! where that needs the flows of earlier batches, begin with an earlier seed.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use etherparse::{EtherType, IpNumber};
use lb_common::reason::{Reason, Verdict};

use crate::frames::{ACK, FIN, IP, Packet, RST, SYN, Transport};
use crate::runner::TRANSMIT;
use crate::world::{
    BACKENDS, DROP, GUE_PORT, INSIDE_MAC, KINDS, MIXED, NODE_MAC, PASS, PORT, REDIRECT, Reach, World,
    backend_ip, backend_mac, backend_number, backend_port, pool, service_address, tunnel_source,
};

/// Enough for every kind of frame to be broken in many ways, in some seconds.
const BATCHES: u64 = 4000;
const BATCH: usize = 64;
/// Two tags, IPv6 and UDP in front; or the headers of an ICMPv6 error.
const GROWTH: usize = 8 + 40 + 8 + 8;
/// What the kernel takes in a test run.
const LEAST: usize = 14;
const MOST: usize = 2000;

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_frame_is_aborted_changed_on_its_way_to_the_kernel_or_counted_wrongly() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("EVENKEEL_FUZZ_SEED").unwrap_or(1);
    let until = number("EVENKEEL_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut fuzzer = Fuzzer { world: World::new(), counted: BTreeMap::new(), met: BTreeMap::new() };
    let mut batch = 0;
    while until.map_or(batch < BATCHES, |until| Instant::now() < until) {
        fuzzer.batch(first + batch);
        batch += 1;
    }
    println!("{batch} batches of {BATCH} frames: {:?}", fuzzer.met);
    for reason in
        [Reason::Flow, Reason::Reply, Reason::NewFlow, Reason::Opening, Reason::Malformed, Reason::NoService]
    {
        assert!(fuzzer.met.contains_key(&(reason as u32)), "the fuzzer does not get as far as {reason:?}");
    }
}

struct Fuzzer {
    world: World,
    counted: BTreeMap<u32, u64>,
    /// Packets by reason, over all batches.
    met: BTreeMap<u32, u64>,
}

impl Fuzzer {
    fn batch(&mut self, seed: u64) {
        let mut random = Random(seed);
        if random.chance(8) {
            let mut table = || Some(random.below(MIXED as usize + 2) as u32).filter(|table| *table <= MIXED);
            let (current, previous) = (table(), table());
            self.world.turn(current, previous);
            self.world.serve(random.below(BACKENDS as usize) as u32, !random.chance(3));
        }
        let mut by_action = [0_u64; 5];
        for _ in 0..BATCH {
            let frame = frame(&mut random);
            let (action, out) = self.world.runner.run(&frame);
            let told = || format!("seed {seed}, action {action}\nin  {frame:02x?}\nout {out:02x?}");
            assert!([DROP, PASS, TRANSMIT, REDIRECT].contains(&action), "{}", told());
            assert!(action != PASS || out == frame, "{}", told());
            assert!(out.len() <= frame.len() + GROWTH, "{}", told());
            by_action[action as usize] += 1;
        }
        let grown = self.grown();
        let of = |verdicts: &[Verdict]| -> u64 {
            grown
                .iter()
                .filter(|(reason, _)| verdicts.contains(&reason.verdict()))
                .map(|(_, count)| count)
                .sum()
        };
        let counted = [of(&[Verdict::Drop]), of(&[Verdict::Pass]), of(&[Verdict::Forward, Verdict::Answer])];
        let seen = [by_action[1], by_action[2], by_action[3] + by_action[4]];
        assert_eq!(counted, seen, "seed {seed}: {grown:?}");
        assert!(grown.iter().all(|(reason, _)| *reason != Reason::Internal), "seed {seed}: {grown:?}");
    }

    fn grown(&mut self) -> Vec<(Reason, u64)> {
        let counts = self.world.plane.reasons.read().unwrap();
        let grown = counts.into_iter().map(|(reason, count)| {
            let before = self.counted.insert(reason as u32, count).unwrap_or(0);
            (reason, count - before)
        });
        let grown: Vec<_> = grown.filter(|(_, more)| *more != 0).collect();
        for (reason, more) in &grown {
            *self.met.entry(*reason as u32).or_default() += more;
        }
        grown
    }
}

fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = valid(random);
    if !random.chance(4) {
        for _ in 0..=random.below(4) {
            break_it(random, &mut frame);
        }
    }
    frame.truncate(MOST);
    frame.resize(frame.len().max(LEAST), 0);
    frame
}

/// A frame as it might come in. Few clients, so that their flows get somewhere.
fn valid(random: &mut Random) -> Vec<u8> {
    let packet = packet(random);
    let ip = packet.ip();
    let v6 = packet.source.is_ipv6();
    match random.below(12) {
        0 => error(random, &packet),
        1 => echo(random, &packet),
        2 => fragment(random, &packet),
        3 => tunnelled(random, &packet, &ip),
        4 if v6 => extended(random, &packet),
        5 if random.chance(4) => [packet.ethernet(EtherType::ARP), ip].concat(),
        _ => packet.bytes(),
    }
}

/// TCP or UDP, QUIC among it, to a service or from a backend.
fn packet(random: &mut Random) -> Packet {
    let (v6, service) = (random.chance(2), random.below(KINDS.len()));
    let port = if random.chance(4) { random.of(&[1000, 1500, 1999, 3000]) } else { PORT };
    let client = SocketAddr::new(client(v6, random.below(6) as u8), 40_000 + random.below(3) as u16);
    let service = SocketAddr::new(service_address(service, v6), port);
    let (mut source, mut destination, mut macs) =
        (client, service, (NODE_MAC, [2, 0, 0, 0, 7, random.below(3) as u8]));
    if random.chance(3) {
        let number = backend_number(Reach::Plain, v6, random.below(BACKENDS as usize) as u32);
        source = SocketAddr::new(backend_ip(number), backend_port(number, port));
        destination = if random.chance(4) {
            SocketAddr::new(pool(v6)[0], 2000 + random.below(100) as u16)
        } else {
            client
        };
        macs = (INSIDE_MAC, backend_mac(number));
    }
    let flags = random.of(&[SYN, ACK, ACK, ACK, FIN | ACK, RST, SYN | ACK, 0, 0xff]);
    let head = random.of(&[0xc0_u8, 0xe0, 0x40, 0x80, 0]);
    let length = if random.chance(16) { 1400 } else { random.below(60) };
    let mut payload: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    if let Some(first) = payload.first_mut() {
        *first = head;
    }
    let tag = |random: &mut Random| (random.of(&[0x8100, 0x88a8]), random.next() as u16);
    let tags =
        if random.chance(6) { (0..=random.below(3)).map(|_| tag(random)).collect() } else { Vec::new() };
    Packet {
        to_mac: macs.0,
        from_mac: macs.1,
        tags,
        source,
        destination,
        ttl: random.of(&[0, 1, 2, 64, 64, 64, 64, 255]),
        class: random.next() as u8,
        dont_fragment: random.chance(2),
        options: if random.chance(4) { random.below(11) } else { 0 },
        transport: random.of(&[
            Transport::Tcp(flags),
            Transport::Tcp(flags),
            Transport::Udp,
            Transport::UdpWithoutChecksum,
        ]),
        payload,
    }
}

fn client(v6: bool, number: u8) -> std::net::IpAddr {
    if v6 {
        std::net::Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, number.into()).into()
    } else {
        std::net::Ipv4Addr::new(192, 0, 2, number).into()
    }
}

fn around(packet: &Packet, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    let v6 = packet.source.is_ipv6();
    let header = packet.ethernet(if v6 { EtherType::IPV6 } else { EtherType::IPV4 });
    [header, packet.ip_around(protocol, payload)].concat()
}

/// An ICMP error of somebody on the way, about a packet the other way round.
fn error(random: &mut Random, packet: &Packet) -> Vec<u8> {
    let v6 = packet.source.is_ipv6();
    let quoted = Packet { source: packet.destination, destination: packet.source, ..packet.clone() }.ip();
    let quoted = &quoted[..quoted.len().min(if v6 { 200 } else { 28 + random.below(200) })];
    let kind = if v6 {
        random.of(&[[1, 4], [2, 0], [3, 0], [4, 1]])
    } else {
        random.of(&[[3, 4], [3, 1], [11, 0], [12, 0]])
    };
    let size = (random.of(&[0, 68, 1280, 1400, 1500, 65_535]) as u16).to_be_bytes();
    let icmp = [&kind[..], &[0, 0, 0, 0], &size, quoted].concat();
    around(packet, if v6 { IpNumber::IPV6_ICMP } else { IpNumber::ICMP }, &icmp)
}

fn echo(random: &mut Random, packet: &Packet) -> Vec<u8> {
    let v6 = packet.source.is_ipv6();
    let kind = if v6 { random.of(&[128, 129, 135, 136]) } else { random.of(&[8, 0, 13]) };
    let icmp = [&[kind, 0, 0, 0, 0, 1, 0, 1][..], &packet.payload].concat();
    around(packet, if v6 { IpNumber::IPV6_ICMP } else { IpNumber::ICMP }, &icmp)
}

fn fragment(random: &mut Random, packet: &Packet) -> Vec<u8> {
    let (protocol, segment) = packet.segment();
    let (offset, more) = (random.of(&[0, 0, 1, 2, 8, 180, 8191_u16]), u16::from(random.chance(2)));
    let id = random.below(4) as u8;
    if packet.source.is_ipv6() {
        let [high, low] = (offset << 3 | more).to_be_bytes();
        let header = [protocol.0, 0, high, low, 0, 0, 0, id];
        return around(packet, IpNumber::IPV6_FRAGMENTATION_HEADER, &[&header[..], &segment].concat());
    }
    let mut frame = around(packet, protocol, &segment);
    let ip = IP + 4 * packet.tags.len();
    frame[ip + 5] = id;
    frame[ip + 6..ip + 8].copy_from_slice(&(more << 13 | offset & 0x1fff).to_be_bytes());
    frame
}

/// As if it came from another node, to a backend or to this one.
fn tunnelled(random: &mut Random, packet: &Packet, ip: &[u8]) -> Vec<u8> {
    let outer_v6 = random.chance(2);
    let to = if random.chance(2) {
        backend_ip(backend_number(Reach::Plain, outer_v6, 0))
    } else {
        service_address(1, outer_v6)
    };
    let inner = if packet.source.is_ipv6() { IpNumber::IPV6 } else { IpNumber::IPV4 };
    let outer = Packet {
        source: SocketAddr::new(tunnel_source(to), 50_000),
        destination: SocketAddr::new(to, GUE_PORT),
        transport: Transport::Udp,
        payload: ip.to_vec(),
        ..packet.clone()
    };
    if random.chance(2) { outer.bytes() } else { around(&outer, inner, ip) }
}

fn extended(random: &mut Random, packet: &Packet) -> Vec<u8> {
    let (protocol, mut chain) = packet.segment();
    let mut next = protocol.0;
    for _ in 0..=random.below(9) {
        let kind = random.of(&[0_u8, 43, 60, 60, 44, 51]);
        let length = if kind == 44 { 0 } else { random.below(3) as u8 };
        let mut header = vec![0; 8 + usize::from(length) * 8];
        (header[0], header[1]) = (next, length);
        chain.splice(0..0, header);
        next = kind;
    }
    around(packet, IpNumber(next), &chain)
}

fn break_it(random: &mut Random, frame: &mut Vec<u8>) {
    let Some(last) = frame.len().checked_sub(1) else { return };
    // Most of what is read is at the beginning.
    let reach = if random.chance(2) { last.min(70) } else { last };
    let at = random.below(reach + 1);
    match random.below(9) {
        0 | 1 => frame[at] ^= 1 << random.below(8),
        2 => frame[at] = random.next() as u8,
        3 => frame[at] = random.of(&[0, 1, 4, 6, 0x11, 0x3a, 0x40, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xff]),
        4 => frame.truncate(at),
        5 => frame.extend((0..random.below(100)).map(|_| 0xee)),
        6 => {
            let other = valid(random);
            frame.truncate(at);
            frame.extend(other.get(random.below(other.len())..).unwrap_or_default());
        }
        7 => {
            let length = random.below(16).min(frame.len() - at);
            frame.drain(at..at + length);
        }
        _ if at < last => {
            let value = (random.of(&[0, 1, 7, 8, 19, 20, 28, 40, 0x1fff, 0xffff]) as u16)
                .wrapping_add(random.below(3) as u16);
            frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        _ => {}
    }
}
