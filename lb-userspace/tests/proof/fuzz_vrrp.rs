//! Messages of every kind of VRRP, broken, into the decoder: it panics at none, and believes none that it should not.
//!
//! Goes on and begins as `fuzz` does, by the same variables.

use std::collections::BTreeMap;
use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use evenkeel::config::model::{Authentication, Key, Secret, Version, Vrid};
use evenkeel::vrrp::wire::auth::{Receiver, Signer};
use evenkeel::vrrp::wire::{
    Addresses, Advert, Checksum, Discard, Expected, Family, Meta, Received, TTL, Unicast, decode, packet,
    split,
};

use crate::fuzz::Random;

const MESSAGES: u64 = 200_000;
const CLOCK: Duration = Duration::from_secs(1_700_000_000);
const INTERVAL: Duration = Duration::from_secs(1);
const OWN: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(203, 0, 113, 2), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2));
const PEER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

#[test]
#[ignore = "long: cargo xtask test"]
fn broken_messages_are_refused_or_are_what_they_say() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("EVENKEEL_FUZZ_SEED").unwrap_or(1);
    let until = number("EVENKEEL_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut met = BTreeMap::<&str, u64>::new();
    let mut messages = 0;
    while until.map_or(messages < MESSAGES, |until| Instant::now() < until) {
        let result = one(first + messages);
        *met.entry(result.err().map_or("accepted", Discard::as_str)).or_default() += 1;
        messages += 1;
    }
    println!("{messages} messages: {met:?}");
    for reason in Discard::ALL {
        assert!(met.contains_key(reason.as_str()), "the fuzzer does not get as far as {reason:?}");
    }
    assert!(met["accepted"] > messages / 100);
}

fn one(seed: u64) -> Result<(), Discard> {
    let mut random = Random(seed);
    let version = if random.below(3) == 0 { Version::V2 } else { Version::V3 };
    let family = if version == Version::V3 && random.below(2) == 0 { Family::V6 } else { Family::V4 };
    let of = |(v4, v6): (Ipv4Addr, Ipv6Addr)| match family {
        Family::V4 => IpAddr::V4(v4),
        Family::V6 => IpAddr::V6(v6),
    };
    let unicast = random.below(3) == 0;
    let ours = authentication(&mut random);
    let theirs = if random.below(4) == 0 { authentication(&mut random) } else { ours.clone() };
    let destination = if unicast { of(OWN) } else { family.group() };
    let meta = Meta { source: of(PEER), destination, ttl: TTL };
    let advert = advert(&mut random, family);
    let form = if random.below(2) == 0 { Checksum::Message } else { Checksum::PseudoHeader };
    let clock = CLOCK + Duration::from_secs(random.below(40) as u64);
    let mut signer = Signer::new(theirs.as_ref());
    let sent = advert.message(version, meta.source, destination, form, &mut signer, clock);

    let mut payload = sent.clone();
    for _ in 0..random.below(3) {
        break_it(&mut random, &mut payload);
    }
    let heard = if random.below(4) == 0 { elsewhere(&mut random, meta, of(OWN)) } else { meta };
    let (vrid, peers) = (Vrid::new(51).unwrap(), [of(PEER)]);
    let unicast = unicast.then_some(Unicast { peers: &peers, min_ttl: 255 });
    let expected = Expected { vrid, version, family, own: Some(of(OWN)), unicast, interval: INTERVAL };
    let mut receiver = Receiver::new(ours.as_ref());
    let mut hear = || decode(&payload, heard, &expected, &mut receiver, CLOCK);
    let received = through_a_packet(&mut random, meta, &payload).and_then(|()| hear());
    let received = if random.below(4) == 0 { received.and_then(|_| hear()) } else { received };
    if let (Ok(received), true) = (&received, requires_keys(ours.as_ref(), version)) {
        assert_eq!((heard, &received.advert), (meta, &advert), "seed {seed}: a signature was forged");
        assert_eq!(payload[..sent.len()], sent, "seed {seed}: a signature was forged");
    }
    if let Ok(Received { advert, .. }) = received.as_ref() {
        assert!(advert.vrid == vrid && !advert.interval.is_zero(), "seed {seed}: {advert:?}");
    }
    received.map(drop)
}

fn requires_keys(authentication: Option<&Authentication>, version: Version) -> bool {
    version == Version::V3 && matches!(authentication, Some(Authentication::Keys { required: true, .. }))
}

fn authentication(random: &mut Random) -> Option<Authentication> {
    let mut key = || Key { id: random.below(3) as u8, secret: Secret(vec![random.below(2) as u8; 32]) };
    let keys = vec![key()];
    match random.below(4) {
        0 => None,
        1 => Some(Authentication::Password(Secret(vec![b'a'; 1 + random.below(8)]))),
        _ => Some(Authentication::Keys { keys, required: random.below(2) == 0 }),
    }
}

fn advert(random: &mut Random, family: Family) -> Advert {
    let vrid = Vrid::new(51 + u8::from(random.below(16) == 0)).unwrap();
    let count = random.below(5);
    let addresses = match family {
        Family::V4 => Addresses::V4(vec![PEER.0; count]),
        Family::V6 => Addresses::V6(vec![PEER.1; count]),
    };
    let interval = if random.below(8) == 0 { INTERVAL * 2 } else { INTERVAL };
    Advert { vrid, priority: random.next() as u8, interval, addresses }
}

/// Comes by another way.
fn elsewhere(random: &mut Random, meta: Meta, own: IpAddr) -> Meta {
    let v4 = meta.source.is_ipv4();
    let other = if v4 { IpAddr::from([224, 0, 0, 19]) } else { "ff02::13".parse().unwrap() };
    let stranger = if v4 { IpAddr::from([203, 0, 113, 9]) } else { "fe80::9".parse().unwrap() };
    let group = Family::of(meta.source).group();
    match random.below(6) {
        0 => Meta { ttl: random.next() as u8, ..meta },
        1 => Meta { destination: other, ..meta },
        2 => Meta { destination: group, ..meta },
        3 => Meta { destination: own, ..meta },
        4 => Meta { source: own, ..meta },
        _ => Meta { source: stranger, ..meta },
    }
}

fn through_a_packet(random: &mut Random, meta: Meta, payload: &[u8]) -> Result<(), Discard> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (meta.source, meta.destination) else {
        return Ok(());
    };
    // So long a message is made by breaking only, and no header is made for it.
    let mut packet = packet(source, destination, &payload[..payload.len().min(1000)]);
    assert_eq!(split(&packet), Ok((meta, &payload[..payload.len().min(1000)])));
    if random.below(4) == 0 {
        break_it(random, &mut packet);
    }
    split(&packet).map(drop)
}

fn break_it(random: &mut Random, bytes: &mut Vec<u8>) {
    let Some(last) = bytes.len().checked_sub(1) else { return };
    // The first eight bytes are read most.
    let reach = if random.below(2) == 0 { last.min(7) } else { last };
    let at = random.below(reach + 1);
    match random.below(6) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.next() as u8,
        3 => bytes.truncate(at),
        4 => bytes.extend((0..random.below(60)).map(|_| random.next() as u8)),
        _ => right_the_checksum(random, bytes, at),
    }
}

/// A change that the checksum over the message alone goes along with.
fn right_the_checksum(random: &mut Random, bytes: &mut [u8], at: usize) {
    let value = [0, 1, 2, 0x21, 0x31, 0x32, 0xff][random.below(7)];
    if at >= 6 || bytes.len() < 8 {
        return;
    }
    let word = at & !1;
    let old = u32::from(u16::from_be_bytes([bytes[word], bytes[word + 1]]));
    bytes[at] = value;
    if at == 4 && value == 0 {
        bytes[5] = 0;
    }
    let new = u32::from(u16::from_be_bytes([bytes[word], bytes[word + 1]]));
    let checksum = u32::from(u16::from_be_bytes([bytes[6], bytes[7]]));
    // RFC 1624 equation 3.
    let mut sum = (!checksum & 0xffff) + (!old & 0xffff) + new;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
