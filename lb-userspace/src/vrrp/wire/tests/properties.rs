use proptest::prelude::*;

use super::golden::KEEPALIVED;
use super::*;

fn addresses(version: Version) -> impl Strategy<Value = Addresses> {
    let v4 = prop::collection::vec(any::<Ipv4Addr>(), 1..=255).prop_map(Addresses::V4);
    let v6 = prop::collection::vec(any::<Ipv6Addr>(), 1..=255).prop_map(Addresses::V6);
    if version == Version::V2 { v4.boxed() } else { prop_oneof![v4, v6].boxed() }
}

fn any_advert(version: Version) -> impl Strategy<Value = Advert> {
    let interval = match version {
        Version::V2 => (1..=255_u64).prop_map(Duration::from_secs).boxed(),
        Version::V3 => {
            (1..=4095_u64).prop_map(|centiseconds| Duration::from_millis(centiseconds * 10)).boxed()
        }
    };
    (1..=255_u8, any::<u8>(), interval, addresses(version)).prop_map(|(id, priority, interval, addresses)| {
        Advert { vrid: vrid(id), priority, interval, addresses }
    })
}

fn versioned() -> impl Strategy<Value = (Version, Advert)> {
    prop_oneof![Just(Version::V2), Just(Version::V3)]
        .prop_flat_map(|version| (Just(version), any_advert(version)))
}

fn form() -> impl Strategy<Value = Checksum> {
    prop_oneof![Just(Checksum::Message), Just(Checksum::PseudoHeader)]
}

fn any_authentication() -> impl Strategy<Value = Option<Authentication>> {
    let keys = prop::collection::vec((any::<u8>(), any::<u8>()), 1..4).prop_map(|made| {
        let made: Vec<_> = made.into_iter().map(|(id, byte)| key(id, byte)).collect();
        Some(keys(&made[..1], true))
    });
    prop_oneof![Just(None), "[a-z]{1,8}".prop_map(|text| Some(password(&text))), keys]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_the_same(
        (version, advert) in versioned(),
        form in form(),
        authentication in any_authentication(),
        sources: (Ipv4Addr, Ipv6Addr),
        padding in 0..20_usize,
    ) {
        let family = advert.addresses.family();
        let source = if family == Family::V4 { sources.0.into() } else { sources.1.into() };
        let mut signer = Signer::new(authentication.as_ref());
        let mut message = advert.message(version, source, family.group(), form, &mut signer, CLOCK);
        message.extend(vec![0; padding]);
        let meta = Meta { source, destination: family.group(), ttl: TTL };
        let (vrid, interval) = (advert.vrid, advert.interval);
        let expected = Expected { vrid, interval, own: None, ..expected(version, family) };
        let mut receiver = Receiver::new(authentication.as_ref());
        let received = decode(&message, meta, &expected, &mut receiver, CLOCK).unwrap();
        prop_assert_eq!((received.advert, received.source), (advert, source));
        let is_signed = version == Version::V3 && matches!(authentication, Some(Authentication::Keys { .. }));
        prop_assert_eq!(received.key.is_some(), is_signed);
    }

    #[test]
    fn a_signed_message_with_any_bit_flipped_is_refused(
        advert in any_advert(Version::V3),
        form in form(),
        at: prop::sample::Index,
    ) {
        let keys = keys(&[key(1, 1), key(3, 3)], true);
        let (family, mut signer) = (advert.addresses.family(), Signer::new(Some(&keys)));
        let mut message = advert.message(Version::V3, source(family), family.group(), form, &mut signer, CLOCK);
        let bit = at.index(message.len() * 8);
        message[bit / 8] ^= 1 << (bit % 8);
        let (vrid, interval) = (advert.vrid, advert.interval);
        let expected = Expected { vrid, interval, ..expected(Version::V3, family) };
        let received = decode(&message, meta(family), &expected, &mut Receiver::new(Some(&keys)), CLOCK);
        prop_assert!(received.is_err());
    }

    #[test]
    fn any_bytes_are_a_message_or_a_reason(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        v2: bool,
        v6: bool,
        authentication in any_authentication(),
    ) {
        let _ = split(&bytes);
        let (version, family) = (if v2 { Version::V2 } else { Version::V3 }, if v6 { Family::V6 } else { Family::V4 });
        let mut receiver = Receiver::new(authentication.as_ref());
        let _ = decode(&bytes, meta(family), &expected(version, family), &mut receiver, CLOCK);
        // Further into the decoder.
        let start = [if v2 && !v6 { 0x21 } else { 0x31 }, 51, 100, 1];
        bytes.iter_mut().zip(start).for_each(|(byte, start)| *byte = start);
        let _ = decode(&bytes, meta(family), &expected(version, family), &mut receiver, CLOCK);
    }

    #[test]
    fn a_packet_cut_anywhere_or_changed_anywhere_is_a_packet_or_a_reason(
        cut in 0..=32_usize,
        at in 0..32_usize,
        value: u8,
    ) {
        let heard = |packet: &[u8]| {
            let (meta, payload) = split(packet)?;
            plainly(payload, meta, &expected(Version::V3, Family::V4))
        };
        prop_assert_eq!(heard(&KEEPALIVED[..cut]).is_ok(), cut == 32);
        let mut packet = KEEPALIVED;
        packet[at] = value;
        let _ = heard(&packet[..cut]);
    }

    #[test]
    fn frames_of_any_mtu_carry_the_message(advert in any_advert(Version::V3), mtu in 0..2000_usize) {
        let family = advert.addresses.family();
        let message = message(&advert, Version::V3, None);
        let carried: usize = frames([0; 6], mtu, source(family), &message, 1)
            .iter()
            .map(|frame| match (family, frame[20]) {
                (Family::V4, _) => frame.len() - 34,
                (Family::V6, PROTOCOL) => frame.len() - 54,
                (Family::V6, _) => frame.len() - 62,
            })
            .sum();
        prop_assert_eq!(carried, message.len());
    }
}
