//! Frames read and written by hand, for the model.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::backend::{SERVICE_TAG, TAGGED, tags};
use lb_common::reason::Reason;

use crate::frames::{IP, Mac};
use crate::model::{Hop, Out, Tuple};
use crate::world::{BACKENDS, GUE_PORT, Reach, SPREAD, backend_ip, tunnel_source};

/// A whole TCP or UDP packet.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) tags: u32,
    pub(crate) tuple: Tuple,
    pub(crate) flags: u8,
    pub(crate) ttl: u8,
    /// Without its tags.
    plain: Vec<u8>,
    /// Where the transport header is in `plain`.
    transport: usize,
}

impl Parsed {
    pub(crate) fn way_back(&self) -> Hop {
        Hop { to: self.from, from: self.to, tags: self.tags }
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn mac(bytes: &[u8]) -> Mac {
    bytes[..6].try_into().unwrap()
}

fn address(bytes: &[u8], at: usize, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap()).into()
    } else {
        Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap()).into()
    }
}

/// The frame without up to two tags, and those; a tag with next to nothing behind it may stay.
fn untagged(frame: &[u8]) -> (Vec<u8>, u32) {
    let (mut plain, mut found) = (frame.to_vec(), Vec::new());
    while found.len() < 2 && plain.len() >= IP + 6 && [0x8100, 0x88a8].contains(&word(&plain, 12)) {
        let service = if word(&plain, 12) == 0x88a8 { SERVICE_TAG } else { 0 };
        found.push(word(&plain, 14) & 0xfff | TAGGED | service);
        plain.drain(12..16);
    }
    let tags = match found[..] {
        [] => 0,
        [one] => tags(0, one),
        [outer, inner, ..] => tags(outer, inner),
    };
    (plain, tags)
}

/// Whether the model has rules for the frame: not for fragments, extension headers and ICMP.
pub(crate) fn has_rules(frame: &[u8]) -> bool {
    let (plain, _) = untagged(frame);
    match word(&plain, 12) {
        0x0800 if plain.len() >= IP + 20 => word(&plain, IP + 6) & 0x3fff == 0 && plain[IP + 9] != 1,
        0x86dd if plain.len() >= IP + 40 => ![0, 43, 44, 51, 58, 60, 135, 139, 140].contains(&plain[IP + 6]),
        _ => true,
    }
}

pub(crate) fn parse(frame: &[u8]) -> Result<Parsed, Reason> {
    let (plain, tags) = untagged(frame);
    let v6 = match word(&plain, 12) {
        0x0800 => false,
        0x86dd => true,
        _ => return Err(Reason::NotIp),
    };
    let fixed = if v6 { 40 } else { 20 };
    if plain.len() < IP + fixed {
        return Err(Reason::Malformed);
    }
    let (version, header, total, protocol, ttl, addresses) = if v6 {
        (6, 40, 40 + usize::from(word(&plain, IP + 4)), plain[IP + 6], plain[IP + 7], IP + 8)
    } else {
        let header = usize::from(plain[IP] & 15) * 4;
        (4, header, usize::from(word(&plain, IP + 2)), plain[IP + 9], plain[IP + 8], IP + 12)
    };
    if plain[IP] >> 4 != version || header < fixed || IP + total > plain.len() {
        return Err(Reason::Malformed);
    }
    let payload = total.checked_sub(header).ok_or(Reason::Malformed)?;
    let transport = IP + header;
    let flags = match protocol {
        6 if payload >= 20 && (20..=payload).contains(&(usize::from(plain[transport + 12] >> 4) * 4)) => {
            plain[transport + 13]
        }
        17 if payload >= 8 && (8..=payload).contains(&usize::from(word(&plain, transport + 4))) => 0,
        6 | 17 => return Err(Reason::Malformed),
        _ => return Err(Reason::OtherProtocol),
    };
    let size = if v6 { 16 } else { 4 };
    let source = SocketAddr::new(address(&plain, addresses, v6), word(&plain, transport));
    let destination = SocketAddr::new(address(&plain, addresses + size, v6), word(&plain, transport + 2));
    let tuple = Tuple { source, destination, protocol };
    let (to, from) = (mac(&plain), mac(&plain[6..]));
    Ok(Parsed { to, from, tags, tuple, flags, ttl, plain, transport })
}

/// Source address and port of a frame that the program sent.
pub(crate) fn source_of(frame: &[u8]) -> Option<SocketAddr> {
    parse(frame).ok().map(|packet| packet.tuple.source)
}

/// `out` is `frame` but for what the model says: every sum that was right is right, and a wrong one is as wrong as it was.
pub(crate) fn hold(frame: &[u8], out: &[u8], expected: &Out) {
    let packet = parse(frame).unwrap();
    let wanted = ethernet(expected, packet.tuple.source.is_ipv6());
    assert_eq!(out[..wanted.len()], wanted, "Ethernet header and tags");
    let mut rest = out[wanted.len()..].to_vec();
    if let Some(backend) = expected.tunnel {
        let inner = packet.plain.len() - IP;
        rest = outer(&packet, rest, inner, backend);
    }
    let inner = inner(&packet, expected);
    assert_eq!(rest.len(), inner.len(), "length");
    let (v6, transport) = (packet.tuple.source.is_ipv6(), packet.transport - IP);
    let mut sums = vec![transport + if packet.tuple.protocol == 6 { 16 } else { 6 }];
    if !v6 {
        sums.push(10);
    }
    let without = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for at in &sums {
            bytes[*at..*at + 2].fill(0);
        }
        bytes
    };
    assert_eq!(without(&rest), without(&inner));
    let before = &packet.plain[IP..];
    if !v6 {
        assert_eq!(sum(&before[..transport]), sum(&rest[..transport]), "IP header");
    }
    let none = packet.tuple.protocol == 17 && before[sums[0]..sums[0] + 2] == [0, 0];
    if none {
        assert_eq!(rest[sums[0]..sums[0] + 2], [0, 0]);
    } else {
        let segment = |bytes: &[u8]| {
            let addresses = if v6 { &bytes[8..40] } else { &bytes[12..20] };
            (sum(addresses) + sum(&bytes[transport..])) % 0xffff
        };
        assert_eq!(segment(before), segment(&rest), "transport");
        assert!(
            packet.tuple.protocol == 6 || rest[sums[0]..sums[0] + 2] != [0, 0] || expected.tunnel.is_some()
        );
    }
}

/// The IP packet as it leaves, with the sums it came with.
fn inner(packet: &Parsed, expected: &Out) -> Vec<u8> {
    let mut inner = packet.plain[IP..].to_vec();
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let addresses = [octets(expected.source.ip()), octets(expected.destination.ip())].concat();
    let (at, ttl) = if packet.tuple.source.is_ipv6() { (8, 7) } else { (12, 8) };
    inner[ttl] -= 1;
    inner[at..at + addresses.len()].copy_from_slice(&addresses);
    let transport = packet.transport - IP;
    inner[transport..transport + 2].copy_from_slice(&expected.source.port().to_be_bytes());
    inner[transport + 2..transport + 4].copy_from_slice(&expected.destination.port().to_be_bytes());
    inner
}

fn ethernet(expected: &Out, inner_v6: bool) -> Vec<u8> {
    let mut header = [expected.hop.to, expected.hop.from].concat();
    for tag in [expected.hop.tags >> 16, expected.hop.tags & 0xffff].map(|tag| tag as u16) {
        if tag & TAGGED != 0 {
            header.extend(if tag & SERVICE_TAG != 0 { [0x88, 0xa8] } else { [0x81, 0] });
            header.extend((tag & 0xfff).to_be_bytes());
        }
    }
    let v6 = expected.tunnel.map_or(inner_v6, |backend| backend_ip(backend).is_ipv6());
    header.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
    header
}

/// Takes the outer headers off, of which every field must be right, around so many bytes. Those that vary by flow may be
/// anything within what is configured.
fn outer(packet: &Parsed, mut rest: Vec<u8>, inner: usize, backend: u32) -> Vec<u8> {
    let (to, class) = (backend_ip(backend), class(packet));
    let gue = [Reach::Gue as u32, Reach::GueCross as u32].contains(&(backend / BACKENDS % 4));
    let protocol = if gue {
        17
    } else if packet.tuple.source.is_ipv6() {
        41
    } else {
        4
    };
    // Padding of the frame is not part of the packet, and goes along behind it.
    let length = ip_length(packet) + if gue { 8 } else { 0 };
    let from = |bytes: &[u8]| match (tunnel_source(to), address(bytes, 0, to.is_ipv6())) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()),
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
        _ => unreachable!("of one family"),
    };
    let spread = |bytes: &[u8]| from(bytes) < if gue { 1 << SPREAD } else { 1 };
    let header = match to {
        IpAddr::V4(to) => {
            let [high, low] = ((length + 20) as u16).to_be_bytes();
            assert_eq!(rest[..10], [0x45, class, high, low, 0, 0, 0x40, 0, 64, protocol]);
            assert_eq!(sum(&rest[..20]), 0, "outer header");
            assert!(spread(&rest[12..]));
            assert_eq!(rest[16..20], to.octets());
            20
        }
        IpAddr::V6(to) => {
            let [high, low] = (length as u16).to_be_bytes();
            assert_eq!(rest[..8], [0x60 | class >> 4, class << 4, 0, 0, high, low, protocol, 64]);
            assert!(spread(&rest[8..]));
            assert_eq!(rest[24..40], to.octets());
            40
        }
    };
    rest.drain(..header);
    if gue {
        assert!(word(&rest, 0) >= 0xc000);
        assert_eq!((word(&rest, 2), usize::from(word(&rest, 4)), word(&rest, 6)), (GUE_PORT, length, 0));
        rest.drain(..8);
    }
    assert_eq!(rest.len(), inner);
    rest
}

fn class(packet: &Parsed) -> u8 {
    let ip = &packet.plain[IP..];
    if packet.tuple.source.is_ipv6() { ip[0] << 4 | ip[1] >> 4 } else { ip[1] }
}

fn ip_length(packet: &Parsed) -> usize {
    let ip = &packet.plain[IP..];
    usize::from(if packet.tuple.source.is_ipv6() { word(ip, 4) + 40 } else { word(ip, 2) })
}

/// One's complement sum: arithmetic modulo 65,535.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum, pair| {
        (sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0))) % 0xffff
    })
}
