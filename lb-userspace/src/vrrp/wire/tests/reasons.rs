use super::golden::KEEPALIVED;
use super::*;

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const PEERS: [IpAddr; 1] = [IpAddr::V4(SOURCE)];

/// A message of one address with a change to it, and the checksum made right for that.
fn changed(version: Version, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut message = message(&advert(), version, None);
    change(&mut message);
    message[6..8].fill(0);
    let sum = checksum(sum(&message));
    message[6..8].copy_from_slice(&sum);
    message
}

#[test]
fn each_defect_of_a_message_has_its_reason() {
    let v3 = |change: fn(&mut [u8])| (Version::V3, changed(Version::V3, change));
    let v2 = |change: fn(&mut [u8])| (Version::V2, changed(Version::V2, change));
    let cut = |version, length| (version, message(&advert(), version, None)[..length].to_vec());
    let flipped = |version| {
        let mut message = message(&advert(), version, None);
        message[2] ^= 1;
        (version, message)
    };
    let none = |version| {
        let none = Advert { addresses: Addresses::V4(Vec::new()), ..advert() };
        (version, message(&none, version, None))
    };
    let rows = [
        ("no payload", cut(Version::V3, 0), Discard::Truncated),
        ("half a header", cut(Version::V3, 4), Discard::Truncated),
        ("half an address", cut(Version::V3, 10), Discard::Truncated),
        ("no authentication data", cut(Version::V2, 12), Discard::Truncated),
        ("more addresses than there are", v3(|message| message[3] = 2), Discard::Truncated),
        ("another virtual router, cut", cut(Version::V3, 2), Discard::Truncated),
        ("another virtual router", v3(|message| message[1] = 52), Discard::Vrid),
        ("of another version", v3(|message| message[..2].copy_from_slice(&[0x21, 52])), Discard::Vrid),
        ("version 2", v3(|message| message[0] = 0x21), Discard::BadVersion),
        ("version 3", v2(|message| message[0] = 0x31), Discard::BadVersion),
        ("another type", v3(|message| message[0] = 0x32), Discard::BadType),
        ("a flipped bit", flipped(Version::V3), Discard::BadChecksum),
        ("a flipped bit of version 2", flipped(Version::V2), Discard::BadChecksum),
        ("no address", none(Version::V3), Discard::AddressCount),
        ("no address in version 2", none(Version::V2), Discard::AddressCount),
        ("interval 0", v3(|message| message[4..6].fill(0)), Discard::BadInterval),
        ("interval 0 under reserved bits", v3(|m| m[4..6].copy_from_slice(&[0xf0, 0])), Discard::BadInterval),
        ("interval 0 of version 2", v2(|message| message[5] = 0), Discard::BadInterval),
        ("another interval in version 2", v2(|message| message[5] = 2), Discard::Interval),
        ("a password that nobody asked for", v2(|message| message[4] = 1), Discard::BadAuth),
        ("an unknown kind of authentication", v2(|message| message[4] = 2), Discard::BadAuth),
    ];
    for (what, (version, message), reason) in rows {
        let expected = expected(version, Family::V4);
        assert_eq!(plainly(&message, meta(Family::V4), &expected), Err(reason), "{what}");
    }
}

#[test]
fn each_way_that_a_message_must_not_come_by_has_its_reason() {
    let group = meta(Family::V4);
    let alone = Meta { destination: OWN.into(), ..group };
    let multicast = expected(Version::V3, Family::V4);
    let unicast = |min_ttl| Expected { unicast: Some(Unicast { peers: &PEERS, min_ttl }), ..multicast };
    let to = |destination: [u8; 4]| Meta { destination: destination.into(), ..group };
    let rows = [
        ("the group", group, multicast, None),
        ("a router has touched it", Meta { ttl: 254, ..group }, multicast, Some(Discard::BadTtl)),
        ("another group", to([224, 0, 0, 19]), multicast, Some(Discard::BadDestination)),
        ("broadcast", to([255; 4]), multicast, Some(Discard::BadDestination)),
        ("unicast", alone, multicast, Some(Discard::Unicast)),
        ("over IPv6", meta(Family::V6), multicast, Some(Discard::BadHeader)),
        ("itself", Meta { source: OWN.into(), ..group }, multicast, Some(Discard::OwnAddress)),
        ("a peer", alone, unicast(255), None),
        ("a peer too far away", Meta { ttl: 254, ..alone }, unicast(255), Some(Discard::BadTtl)),
        ("a peer far away", Meta { ttl: 60, ..alone }, unicast(60), None),
        ("a stranger", Meta { source: STRANGER, ..alone }, unicast(255), Some(Discard::UnknownPeer)),
        ("a peer by multicast", group, unicast(255), Some(Discard::Multicast)),
        ("a peer to another group", to([224, 0, 0, 19]), unicast(1), Some(Discard::BadDestination)),
    ];
    for (what, meta, expected, reason) in rows {
        let message = message(&advert(), Version::V3, None);
        assert_eq!(plainly(&message, meta, &expected).err(), reason, "{what}");
    }
}

#[test]
fn each_defect_of_an_ipv4_header_is_a_bad_header() {
    let rows = [
        ("an IPv6 version", 0, 0x65),
        ("a header shorter than any", 0, 0x44),
        ("a header longer than the packet", 0, 0x4f),
        ("a total length beyond the packet", 3, 33),
        ("a total length inside the header", 3, 19),
        ("another protocol", 9, 17),
    ];
    for (what, at, value) in rows {
        let mut packet = KEEPALIVED;
        packet[at] = value;
        assert_eq!(split(&packet), Err(Discard::BadHeader), "{what}");
    }
}

#[test]
fn reserved_bits_of_version_3_are_ignored() {
    let reserved = changed(Version::V3, |message| message[4] |= 0xf0);
    let received = plainly(&reserved, meta(Family::V4), &expected(Version::V3, Family::V4));
    assert_eq!(received.unwrap().advert, advert());
}

#[test]
fn another_interval_in_version_3_is_told_and_no_reason_to_ignore() {
    let slow = Advert { interval: Duration::from_millis(40_950), ..advert() };
    let received =
        plainly(&message(&slow, Version::V3, None), meta(Family::V4), &expected(Version::V3, Family::V4));
    assert_eq!(received.unwrap().advert, slow);
}

#[test]
fn over_ipv6_a_checksum_without_pseudo_header_is_wrong() {
    let mut message = message(&advert_v6(), Version::V3, None);
    message[6..8].fill(0);
    let sum = checksum(sum(&message));
    message[6..8].copy_from_slice(&sum);
    let received = plainly(&message, meta(Family::V6), &expected(Version::V3, Family::V6));
    assert_eq!(received, Err(Discard::BadChecksum));
}

#[test]
fn every_reason_to_ignore_a_packet_is_documented_and_no_other() {
    let documented: std::collections::BTreeSet<_> = include_str!("../../../../../docs/vrrp.md")
        .split_once("## Ignored packets")
        .unwrap()
        .1
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(documented, Discard::ALL.iter().map(|discard| discard.as_str()).collect());
}
