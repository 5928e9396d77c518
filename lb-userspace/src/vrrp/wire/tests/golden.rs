//! Bytes by the layouts of the RFCs, and of other implementations.

use super::*;

/// From keepalived 2.2.7, `vrrp_version 3`, by tcpdump, from the IP header on.
pub(super) const KEEPALIVED: [u8; 32] = [
    0x45, 0xc0, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0xff, 0x70, 0x9e, 0x98, 0xcb, 0x00, 0x71, 0x01, 0xe0,
    0x00, 0x00, 0x12, 0x31, 0x33, 0x96, 0x01, 0x00, 0x64, 0xdf, 0xca, 0xcb, 0x00, 0x71, 0x0a,
];
const IP_HEADER: usize = 20;

/// RFC 3768 section 5.1.
const V2: [u8; 20] = [
    0x21, 0x33, 0x96, 0x01, 0x00, 0x01, 0x0c, 0xbf, 0xcb, 0x00, 0x71, 0x0a, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00,
];

/// RFC 2338 section 5.1, with `secret`.
const V2_PASSWORD: [u8; 20] = [
    0x21, 0x33, 0x96, 0x01, 0x01, 0x01, 0xcf, 0x72, 0xcb, 0x00, 0x71, 0x0a, 0x73, 0x65, 0x63, 0x72, 0x65,
    0x74, 0x00, 0x00,
];

/// RFC 9568 section 5.2.
const V3: [u8; 12] = [0x31, 0x33, 0x96, 0x01, 0x00, 0x64, 0xfc, 0x5b, 0xcb, 0x00, 0x71, 0x0a];

const V3_OVER_V6: [u8; 40] = [
    0x31, 0x33, 0x96, 0x02, 0x00, 0x64, 0x0d, 0xdd, 0xfe, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x10,
];

/// Behind [`V3`], by key 7 of the bytes 0 to 15; made with Python's `hmac`.
const TRAILER: [u8; 32] = [
    0x45, 0x4b, 0x41, 0x31, 0x07, 0x00, 0x7a, 0xca, 0x00, 0x06, 0x0a, 0x24, 0x18, 0x1e, 0x40, 0x00, 0xcd,
    0xec, 0x1f, 0x47, 0x9a, 0x03, 0xae, 0x01, 0x08, 0x59, 0xaa, 0x0b, 0xe0, 0xb9, 0xcd, 0x18,
];

#[test]
fn messages_have_the_bytes_of_their_layouts_and_are_understood() {
    let rows = [
        (advert(), Version::V2, V2.to_vec()),
        (advert(), Version::V3, V3.to_vec()),
        (advert_v6(), Version::V3, V3_OVER_V6.to_vec()),
        // There is none of version 2.
        (advert_v6(), Version::V2, V3_OVER_V6.to_vec()),
    ];
    for (advert, version, golden) in rows {
        assert_eq!(message(&advert, version, None), golden);
        let family = advert.addresses.family();
        let received = plainly(&golden, meta(family), &expected(version, family)).unwrap();
        let checksum = (version == Version::V3 && family == Family::V4).then_some(Checksum::Message);
        assert_eq!(received, Received { advert, source: source(family), checksum, key: None });
    }
}

#[test]
fn a_password_is_in_the_message() {
    let password = password("secret");
    assert_eq!(message(&advert(), Version::V2, Some(&password)), V2_PASSWORD);
    let mut receiver = Receiver::new(Some(&password));
    let expected = expected(Version::V2, Family::V4);
    let received = decode(&V2_PASSWORD, meta(Family::V4), &expected, &mut receiver, CLOCK).unwrap();
    assert_eq!(received.advert, advert());
}

#[test]
fn a_signature_has_the_bytes_of_its_layout() {
    let keys = keys(&[Key { id: 7, secret: Secret((0..16).collect()) }], true);
    assert_eq!(message(&advert(), Version::V3, Some(&keys)), [&V3[..], &TRAILER].concat());
}

#[test]
fn keepalived_is_understood() {
    let (meta, payload) = split(&KEEPALIVED).unwrap();
    let received = plainly(payload, meta, &expected(Version::V3, Family::V4)).unwrap();
    let checksum = Some(Checksum::PseudoHeader);
    assert_eq!(received, Received { advert: advert(), source: SOURCE.into(), checksum, key: None });
}

#[test]
fn with_a_pseudo_header_the_bytes_are_those_of_keepalived() {
    let (form, mut signer) = (Checksum::PseudoHeader, Signer::new(None));
    let message = advert().message(Version::V3, SOURCE.into(), GROUP.into(), form, &mut signer, CLOCK);
    let packet = packet(SOURCE, GROUP, &message);
    assert_eq!(packet[IP_HEADER..], KEEPALIVED[IP_HEADER..]);
    let identification = |at: &usize| (4..6).contains(at) || (10..12).contains(at);
    for at in (0..IP_HEADER).filter(|at| !identification(at)) {
        assert_eq!(packet[at], KEEPALIVED[at], "byte {at}");
    }
}
