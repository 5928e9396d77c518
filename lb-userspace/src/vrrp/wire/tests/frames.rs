use super::golden::KEEPALIVED;
use super::*;

const MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x01, 0x33];
const ETHERNET: usize = 14;

#[test]
fn a_frame_over_ipv4_is_for_the_group_with_the_headers_that_rfc_9568_asks_for() {
    let golden = [
        0x01, 0x00, 0x5e, 0x00, 0x00, 0x12, 0x00, 0x00, 0x5e, 0x00, 0x01, 0x33, 0x08, 0x00, 0x45, 0xc0, 0x00,
        0x20, 0x00, 0x00, 0x00, 0x00, 0xff, 0x70, 0x9e, 0x99, 0xcb, 0x00, 0x71, 0x01, 0xe0, 0x00, 0x00, 0x12,
    ];
    let message = message(&advert(), Version::V3, None);
    assert_eq!(frames(MAC, 1500, SOURCE.into(), &message, 9), [[&golden[..], &message].concat()]);
}

#[test]
fn a_frame_over_ipv6_is_for_the_group_with_the_headers_that_rfc_9568_asks_for() {
    let golden = [
        0x33, 0x33, 0x00, 0x00, 0x00, 0x12, 0x00, 0x00, 0x5e, 0x00, 0x01, 0x33, 0x86, 0xdd, 0x6c, 0x00, 0x00,
        0x00, 0x00, 0x28, 0x70, 0xff, 0xfe, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x01, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x12,
    ];
    let message = message(&advert_v6(), Version::V3, None);
    assert_eq!(frames(MAC, 1500, SOURCE_V6.into(), &message, 9), [[&golden[..], &message].concat()]);
}

#[test]
fn what_is_longer_than_the_mtu_goes_in_fragments_that_make_the_message_again() {
    let many_v4 = Advert { addresses: Addresses::V4(vec![SOURCE; 255]), ..advert() };
    let many_v6 = Advert { addresses: Addresses::V6(vec![SOURCE_V6; 255]), ..advert_v6() };
    for (advert, mtu, headers) in [(many_v4, 576, 20), (many_v6, 1500, 48)] {
        let message = message(&advert, Version::V3, None);
        let source = source(advert.addresses.family());
        let frames = frames(MAC, mtu, source, &message, 0x0102_0304);
        assert!(frames.len() > 1);
        let mut again: Vec<u8> = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            assert!(frame.len() <= ETHERNET + mtu);
            let ip = &frame[ETHERNET..];
            let (id, field) = if headers == 20 {
                assert!(checksum::is_right(sum(&ip[..20])));
                (&ip[4..6], u16::from_be_bytes([ip[6], ip[7]]))
            } else {
                assert_eq!((ip[6], ip[40]), (44, PROTOCOL));
                (&ip[44..48], u16::from_be_bytes([ip[42], ip[43]]))
            };
            assert!([1, 2, 3, 4].ends_with(id));
            let (more, offset) =
                if headers == 20 { (field >> 13, field << 3) } else { (field & 1, field & !7) };
            assert_eq!(usize::from(offset), again.len());
            assert_eq!(more == 1, index + 1 < frames.len());
            again.extend(&ip[headers..]);
        }
        assert_eq!(again, message);
    }
}

#[test]
fn ip_options_and_padding_are_ignored() {
    let understood = |packet: &[u8]| {
        let (meta, payload) = split(packet).unwrap();
        plainly(payload, meta, &expected(Version::V3, Family::V4)).unwrap().advert
    };
    let mut padded = KEEPALIVED.to_vec();
    padded.extend([0; 14]);
    assert_eq!(understood(&padded), advert());
    // Also when the total length counts them, as some stacks have it.
    padded[3] = 46;
    assert_eq!(understood(&padded), advert());

    let mut with_options = KEEPALIVED.to_vec();
    with_options.splice(20..20, [1, 1, 1, 1]);
    with_options[0] = 0x46;
    with_options[3] = 36;
    assert_eq!(understood(&with_options), advert());
}

#[test]
fn more_addresses_than_the_count_can_tell_are_left_out() {
    let many = Advert { addresses: Addresses::V6(vec![SOURCE_V6; 300]), ..advert_v6() };
    let keys = keys(&[key(1, 1)], true);
    let message = message(&many, Version::V3, Some(&keys));
    assert!(message.len() + 60 <= MAX_PACKET);
    let received = plainly(&message, meta(Family::V6), &expected(Version::V3, Family::V6)).unwrap();
    assert_eq!(received.advert.addresses, Addresses::V6(vec![SOURCE_V6; 255]));
}
