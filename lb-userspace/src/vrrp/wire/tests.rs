use proptest::prelude::*;

use super::*;

const SOURCE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// From keepalived 2.2.7, `vrrp_version 3`, by tcpdump, from the IP header on.
const KEEPALIVED: [u8; 32] = [
    0x45, 0xc0, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0xff, 0x70, 0x9e, 0x98, 0xcb, 0x00, 0x71, 0x01, 0xe0,
    0x00, 0x00, 0x12, 0x31, 0x33, 0x96, 0x01, 0x00, 0x64, 0xdf, 0xca, 0xcb, 0x00, 0x71, 0x0a,
];

fn vrid(vrid: u8) -> Vrid {
    Vrid::new(vrid).unwrap()
}

fn expected() -> Expected {
    Expected { vrid: vrid(51), own: Some(Ipv4Addr::new(203, 0, 113, 2)) }
}

fn advert() -> Advert {
    Advert {
        vrid: vrid(51),
        priority: 150,
        interval: Duration::from_secs(1),
        addresses: vec![Ipv4Addr::new(203, 0, 113, 10)],
    }
}

/// The capture with a change to its VRRP message, and the checksum made right for it.
fn changed(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut packet = KEEPALIVED.to_vec();
    change(&mut packet[IP_HEADER..]);
    packet[26..28].fill(0);
    let checksum = !fold(sum(&packet[IP_HEADER..]));
    packet[26..28].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn discard(packet: &[u8]) -> Discard {
    parse_packet(packet, expected()).unwrap_err()
}

#[test]
fn keepalived_is_understood() {
    let received = parse_packet(&KEEPALIVED, expected()).unwrap();
    let checksum = Checksum::PseudoHeader;
    assert_eq!(received, Received { advert: advert(), source: SOURCE, checksum });
}

#[test]
fn with_a_pseudo_header_the_bytes_are_those_of_keepalived() {
    let packet = advert().emit(SOURCE, Checksum::PseudoHeader);
    assert_eq!(packet[IP_HEADER..], KEEPALIVED[IP_HEADER..]);
    let left_to_the_kernel = |at: &usize| (4..6).contains(at) || (10..12).contains(at);
    for at in (0..IP_HEADER).filter(|at| !left_to_the_kernel(at)) {
        assert_eq!(packet[at], KEEPALIVED[at], "byte {at}");
    }
}

#[test]
fn by_rfc_9568_the_checksum_covers_the_message_only() {
    let packet = advert().emit(SOURCE, Checksum::Message);
    let golden = [0x31, 0x33, 0x96, 0x01, 0x00, 0x64, 0xfc, 0x5b, 0xcb, 0x00, 0x71, 0x0a];
    assert_eq!(packet[IP_HEADER..], golden);
}

#[test]
fn each_defect_has_its_reason() {
    let ip = |at: usize, value: u8| {
        let mut packet = KEEPALIVED.to_vec();
        packet[at] = value;
        packet
    };
    let rows = [
        ("an IPv6 version", ip(0, 0x65), Discard::BadHeader),
        ("a header shorter than any", ip(0, 0x44), Discard::BadHeader),
        ("a header longer than the packet", ip(0, 0x4f), Discard::BadHeader),
        ("a total length beyond the packet", ip(3, 33), Discard::BadHeader),
        ("a total length inside the header", ip(3, 19), Discard::BadHeader),
        ("another protocol", ip(9, 17), Discard::BadHeader),
        ("another group", ip(19, 0x13), Discard::BadDestination),
        ("a TTL that a router has touched", ip(8, 254), Discard::BadTtl),
        ("no payload", ip(3, 20), Discard::Truncated),
        ("half a message header", ip(3, 24), Discard::Truncated),
        ("half an address", ip(3, 30), Discard::Truncated),
        ("version 2", changed(|message| message[0] = 0x21), Discard::BadVersion),
        ("another type", changed(|message| message[0] = 0x32), Discard::BadType),
        ("a flipped bit", ip(22, 0x97), Discard::BadChecksum),
        ("another virtual router", changed(|message| message[1] = 52), Discard::Vrid),
        ("no address", changed(|message| message[3] = 0), Discard::BadChecksum),
        ("more addresses than there are", changed(|message| message[3] = 2), Discard::Truncated),
        ("interval 0", changed(|message| message[4..6].fill(0)), Discard::BadInterval),
    ];
    for (what, packet, reason) in rows {
        assert_eq!(discard(&packet), reason, "{what}");
    }
}

#[test]
fn no_address_at_all_has_its_reason() {
    let none = Advert { addresses: Vec::new(), ..advert() };
    assert_eq!(discard(&none.emit(SOURCE, Checksum::Message)), Discard::AddressCount);
}

#[test]
fn what_this_node_sent_itself_is_ignored() {
    let own = Expected { own: Some(SOURCE), ..expected() };
    assert_eq!(parse_packet(&KEEPALIVED, own), Err(Discard::OwnAddress));
}

#[test]
fn reserved_bits_and_ip_options_and_padding_are_ignored() {
    let reserved = changed(|message| message[4] |= 0xf0);
    assert_eq!(parse_packet(&reserved, expected()).unwrap().advert, advert());

    let mut padded = KEEPALIVED.to_vec();
    padded.extend([0; 14]);
    assert_eq!(parse_packet(&padded, expected()).unwrap().advert, advert());
    // Also when the total length counts them, as some stacks have it.
    padded[3] = 46;
    assert_eq!(parse_packet(&padded, expected()).unwrap().advert, advert());

    let mut with_options = KEEPALIVED.to_vec();
    with_options.splice(IP_HEADER..IP_HEADER, [1, 1, 1, 1]);
    with_options[0] = 0x46;
    with_options[3] = 36;
    assert_eq!(parse_packet(&with_options, expected()).unwrap().advert, advert());
}

#[test]
fn more_addresses_than_the_count_can_tell_are_left_out() {
    let many = Advert { addresses: vec![SOURCE; 300], ..advert() };
    let packet = many.emit(SOURCE, Checksum::Message);
    assert!(packet.len() <= MAX_PACKET);
    assert_eq!(parse_packet(&packet, expected()).unwrap().advert.addresses.len(), 255);
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed_the_same(
        id in 1..=255_u8,
        priority: u8,
        centiseconds in 1..=4095_u32,
        addresses in prop::collection::vec(any::<Ipv4Addr>(), 1..=255),
        source: Ipv4Addr,
        pseudo_header: bool,
    ) {
        let interval = CENTISECOND * centiseconds;
        let advert = Advert { vrid: vrid(id), priority, interval, addresses };
        let form = if pseudo_header { Checksum::PseudoHeader } else { Checksum::Message };
        let packet = advert.emit(source, form);
        let received = parse_packet(&packet, Expected { vrid: vrid(id), own: None }).unwrap();
        prop_assert_eq!((received.advert, received.source), (advert, source));
    }

    #[test]
    fn any_bytes_are_a_packet_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_packet(&bytes, expected());
        let meta = Meta { source: SOURCE, destination: GROUP, ttl: TTL };
        let _ = Advert::parse(&bytes, meta, expected());
    }

    #[test]
    fn a_packet_cut_anywhere_or_changed_anywhere_is_a_packet_or_a_reason(
        cut in 0..=32_usize,
        at in 0..32_usize,
        value: u8,
    ) {
        prop_assert_eq!(parse_packet(&KEEPALIVED[..cut], expected()).is_ok(), cut == 32);
        let mut packet = KEEPALIVED;
        packet[at] = value;
        let _ = parse_packet(&packet[..cut], expected());
    }
}

#[test]
fn every_reason_to_ignore_a_packet_is_documented_and_no_other() {
    let documented: std::collections::BTreeSet<_> = include_str!("../../../../docs/vrrp.md")
        .split_once("## Ignored packets")
        .unwrap()
        .1
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(documented, Discard::ALL.iter().map(|discard| discard.as_str()).collect());
}
