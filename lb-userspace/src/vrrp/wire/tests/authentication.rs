use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes with clocks of their own.
struct Pair {
    signer: Signer,
    receiver: Receiver,
}

impl Pair {
    fn new(sender: &Authentication, receiver: &Authentication) -> Self {
        Self { signer: Signer::new(Some(sender)), receiver: Receiver::new(Some(receiver)) }
    }

    fn signed(&mut self, clock: Duration) -> Vec<u8> {
        let form = Checksum::Message;
        advert().message(Version::V3, SOURCE.into(), GROUP.into(), form, &mut self.signer, clock)
    }

    fn hear(&mut self, message: &[u8], clock: Duration) -> Result<Option<u8>, Discard> {
        let expected = expected(Version::V3, Family::V4);
        decode(message, meta(Family::V4), &expected, &mut self.receiver, clock).map(|received| received.key)
    }

    fn exchange(&mut self, clock: Duration) -> Result<Option<u8>, Discard> {
        let message = self.signed(clock);
        self.hear(&message, clock)
    }
}

#[test]
fn a_signed_message_counts_once() {
    let keys = keys(&[key(1, 1)], true);
    let mut pair = Pair::new(&keys, &keys);
    let first = pair.signed(CLOCK);
    let second = pair.signed(CLOCK);
    assert_eq!(pair.hear(&first, CLOCK), Ok(Some(1)));
    assert_eq!(pair.hear(&first, CLOCK), Err(Discard::Replayed));
    assert_eq!(pair.hear(&second, CLOCK), Ok(Some(1)));
    assert_eq!(pair.hear(&first, CLOCK), Err(Discard::Replayed));
    assert_eq!(pair.hear(&second, CLOCK), Err(Discard::Replayed));
}

#[test]
fn new_keys_on_the_receiver_do_not_let_old_messages_count_again() {
    let old = keys(&[key(1, 1)], true);
    let mut pair = Pair::new(&old, &old);
    let message = pair.signed(CLOCK);
    assert_eq!(pair.hear(&message, CLOCK), Ok(Some(1)));
    pair.receiver.reconfigure(Some(&keys(&[key(2, 2), key(1, 1)], true)));
    assert_eq!(pair.hear(&message, CLOCK), Err(Discard::Replayed));
}

#[test]
fn a_message_of_another_time_is_refused_by_its_clock() {
    let keys = keys(&[key(1, 1)], true);
    let mut pair = Pair::new(&keys, &keys);
    let message = pair.signed(CLOCK);
    assert_eq!(pair.hear(&message, CLOCK + SECOND * 31), Err(Discard::Clock));
    assert_eq!(pair.hear(&message, CLOCK - SECOND * 31), Err(Discard::Clock));
    assert_eq!(pair.hear(&message, CLOCK + SECOND * 30), Ok(Some(1)));
}

#[test]
fn long_intervals_leave_clocks_more_room() {
    let keys = keys(&[key(1, 1)], true);
    let mut pair = Pair::new(&keys, &keys);
    let message = pair.signed(CLOCK);
    let expected = Expected { interval: SECOND * 40, ..expected(Version::V3, Family::V4) };
    let mut at = |clock| decode(&message, meta(Family::V4), &expected, &mut pair.receiver, clock);
    assert_eq!(at(CLOCK + SECOND * 401), Err(Discard::Clock));
    assert_eq!(at(CLOCK + SECOND * 400).unwrap().key, Some(1));
}

#[test]
fn clocks_that_are_set_are_followed() {
    let keys = keys(&[key(1, 1)], true);
    let mut pair = Pair::new(&keys, &keys);
    for clock in [CLOCK, CLOCK - SECOND, CLOCK + SECOND * 3600, CLOCK + SECOND * 3590, CLOCK] {
        assert_eq!(pair.exchange(clock), Ok(Some(1)));
        assert_eq!(pair.exchange(clock), Ok(Some(1)));
    }
}

#[test]
fn keys_rotate_without_a_message_lost() {
    let (old, new) = (key(1, 1), key(2, 2));
    let only_old = keys(std::slice::from_ref(&old), true);
    let both = keys(&[old.clone(), new.clone()], true);
    let new_first = keys(&[new.clone(), old], true);
    let only_new = keys(&[new], true);
    let steps = [(&only_old, 1), (&both, 1), (&new_first, 2), (&only_new, 2)];
    let mut pair = Pair::new(&only_old, &only_old);
    for (sender, sender_signs) in steps {
        // A node takes its step before or after the other one.
        pair.receiver.reconfigure(Some(sender));
        assert!(pair.exchange(CLOCK).is_ok());
        pair.signer.reconfigure(Some(sender));
        assert_eq!(pair.exchange(CLOCK), Ok(Some(sender_signs)));
    }
    let mut pair = Pair::new(&only_old, &only_old);
    for (sender, sender_signs) in steps {
        pair.signer.reconfigure(Some(sender));
        assert_eq!(pair.exchange(CLOCK), Ok(Some(sender_signs)));
        pair.receiver.reconfigure(Some(sender));
        assert_eq!(pair.exchange(CLOCK), Ok(Some(sender_signs)));
    }
}

#[test]
fn each_defect_of_a_signature_has_its_reason() {
    let ours = keys(&[key(1, 1)], true);
    let unsigned = message(&advert(), Version::V3, None);
    assert_eq!(Pair::new(&ours, &ours).hear(&unsigned, CLOCK), Err(Discard::NoAuth));
    assert_eq!(Pair::new(&keys(&[key(2, 1)], true), &ours).exchange(CLOCK), Err(Discard::UnknownKey));
    assert_eq!(Pair::new(&keys(&[key(1, 2)], true), &ours).exchange(CLOCK), Err(Discard::BadAuth));
    let mut pair = Pair::new(&ours, &ours);
    let cut = pair.signed(CLOCK);
    assert_eq!(pair.hear(&cut[..cut.len() - 1], CLOCK), Err(Discard::NoAuth));
}

#[test]
fn a_signature_is_for_one_source_and_one_destination() {
    let keys = keys(&[key(1, 1)], true);
    let peers = [SOURCE.into(), Ipv4Addr::new(203, 0, 113, 3).into()];
    let expected = Expected {
        unicast: Some(Unicast { peers: &peers, min_ttl: 255 }),
        ..expected(Version::V3, Family::V4)
    };
    let heard = |source: IpAddr, destination: IpAddr| {
        let (form, mut signer) = (Checksum::Message, Signer::new(Some(&keys)));
        let message = advert().message(Version::V3, peers[0], OWN.into(), form, &mut signer, CLOCK);
        let meta = Meta { source, destination, ttl: TTL };
        decode(&message, meta, &expected, &mut Receiver::new(Some(&keys)), CLOCK).err()
    };
    assert_eq!(heard(peers[0], OWN.into()), None);
    assert_eq!(heard(peers[1], OWN.into()), Some(Discard::BadAuth));
    assert_eq!(heard(peers[0], STRANGER), Some(Discard::BadAuth));
}

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

#[test]
fn where_none_is_required_unsigned_messages_count_and_wrong_signatures_do_not() {
    let optional = keys(&[key(1, 1)], false);
    let mut pair = Pair::new(&optional, &optional);
    assert_eq!(pair.hear(&message(&advert(), Version::V3, None), CLOCK), Ok(None));
    assert_eq!(pair.exchange(CLOCK), Ok(Some(1)));
    assert_eq!(Pair::new(&keys(&[key(1, 2)], true), &optional).exchange(CLOCK), Err(Discard::BadAuth));
}

#[test]
fn a_node_without_keys_takes_a_signature_for_padding() {
    let keys = keys(&[key(1, 1)], true);
    for advert in [advert(), advert_v6()] {
        let family = advert.addresses.family();
        let signed = message(&advert, Version::V3, Some(&keys));
        let received = plainly(&signed, meta(family), &expected(Version::V3, family)).unwrap();
        assert_eq!((received.advert, received.key), (advert, None));
    }
}

#[test]
fn a_checksum_over_message_and_signature_together_is_right_too() {
    let keys = keys(&[key(1, 1)], true);
    for form in [Checksum::Message, Checksum::PseudoHeader] {
        for advert in [advert(), advert_v6()] {
            let family = advert.addresses.family();
            let (source, group, mut signer) = (source(family), family.group(), Signer::new(Some(&keys)));
            let signed = advert.message(Version::V3, source, group, form, &mut signer, CLOCK);
            let pseudo_header = checksum::pseudo_header_sum(source, group, signed.len());
            let with_pseudo_header = form == Checksum::PseudoHeader || family == Family::V6;
            let covered = sum(&signed) + if with_pseudo_header { pseudo_header } else { 0 };
            assert!(checksum::is_right(covered), "{form:?} {family:?}");
        }
    }
}

#[test]
fn passwords_of_version_2_must_be_the_same() {
    let heard = |sender: Option<&Authentication>, receiver: Option<&Authentication>| {
        let message = message(&advert(), Version::V2, sender);
        let expected = expected(Version::V2, Family::V4);
        decode(&message, meta(Family::V4), &expected, &mut Receiver::new(receiver), CLOCK).err()
    };
    let (ours, other) = (password("abcdefgh"), password("abcdefg"));
    assert_eq!(heard(Some(&ours), Some(&ours)), None);
    assert_eq!(heard(Some(&other), Some(&ours)), Some(Discard::BadAuth));
    assert_eq!(heard(None, Some(&ours)), Some(Discard::NoAuth));
    assert_eq!(heard(Some(&ours), None), Some(Discard::BadAuth));
}

#[test]
fn more_nodes_than_are_remembered_do_not_take_more_memory_or_lose_the_newest() {
    let keys = keys(&[key(1, 1)], true);
    let mut pair = Pair::new(&keys, &keys);
    let expected = expected(Version::V3, Family::V4);
    let hear = |pair: &mut Pair, node: u32| {
        let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + node));
        let clock = CLOCK + Duration::from_micros(node.into());
        let mut signer = Signer::new(Some(&keys));
        let message =
            advert().message(Version::V3, source, GROUP.into(), Checksum::Message, &mut signer, clock);
        let meta = Meta { source, ..meta(Family::V4) };
        decode(&message, meta, &expected, &mut pair.receiver, CLOCK).map(|received| received.key)
    };
    for node in 0..1000 {
        assert_eq!(hear(&mut pair, node), Ok(Some(1)));
    }
    assert_eq!(hear(&mut pair, 999), Err(Discard::Replayed));
    assert_eq!(hear(&mut pair, 744), Err(Discard::Replayed));
    assert_eq!(hear(&mut pair, 743), Ok(Some(1)));
}

#[test]
fn secrets_are_in_no_log() {
    for authentication in [password("abcdefgh"), keys(&[key(1, b'a')], true)] {
        let (signer, receiver) = (Signer::new(Some(&authentication)), Receiver::new(Some(&authentication)));
        let told = format!("{signer:?} {receiver:?}");
        assert!(told.contains('…') && !told.contains("97"), "{told}");
    }
}
