//! What is no whole tunnel packet is left to the kernel as it came.

use std::cell::RefCell;

use etherparse::IpNumber;
use lb_common::decap::Outcome;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::Backend;
use super::packet::{Between, GUE_PORT, LISTED4, LISTED6, Tunnel, all, sum_again};

const MALFORMED: Option<Outcome> = Some(Outcome::Malformed);

/// A field of the frame overwritten, and the outer header summed again.
fn with(tunnel: &Tunnel, at: usize, field: &[u8]) -> Vec<u8> {
    let mut frame = tunnel.frame();
    frame[at..at + field.len()].copy_from_slice(field);
    if tunnel.destination.is_ipv4() {
        sum_again(&mut frame, tunnel.outer_at());
    }
    frame
}

fn lengths(at: usize, tunnel: &Tunnel) -> u16 {
    let frame = tunnel.frame();
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn frames_cut_anywhere() {
    let mut backend = Backend::new();
    for tunnel in all() {
        for tags in [&[][..], &[7], &[4094, 7]] {
            let tunnel = Tunnel { tags: tags.to_vec(), ..tunnel.clone() };
            let frame = tunnel.frame();
            for length in 14..frame.len() {
                let (outcome, _) = backend.send(&frame[..length]);
                assert!(matches!(outcome, None | MALFORMED), "{length}: {outcome:?}");
                let outer = tunnel.udp_at() + if tunnel.between == Between::Nothing { 0 } else { 8 };
                assert_eq!(outcome, if length < outer { None } else { MALFORMED }, "{length}: {tunnel:?}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn lengths_that_contradict_each_other() {
    let mut backend = Backend::new();
    for tunnel in all() {
        let outer = tunnel.outer_at() + if tunnel.destination.is_ipv4() { 2 } else { 4 };
        let inner = tunnel.inner_at() + if tunnel.inner_is_v4 { 2 } else { 4 };
        let udp = (tunnel.between != Between::Nothing).then(|| tunnel.udp_at() + 4);
        for at in [Some(outer), Some(inner), udp].into_iter().flatten() {
            let right = lengths(at, &tunnel);
            for wrong in [right + 1, right + 2, 0x7fff, 0xffff] {
                let frame = with(&tunnel, at, &wrong.to_be_bytes());
                backend.expect("longer than what it is in", &frame, MALFORMED);
            }
        }
        for at in [Some(outer), udp].into_iter().flatten() {
            for wrong in 0..lengths(at, &tunnel) {
                let frame = with(&tunnel, at, &wrong.to_be_bytes());
                backend.expect("shorter than what is in it", &frame, MALFORMED);
            }
        }
        if tunnel.inner_is_v4 {
            for wrong in 0..20_u16 {
                let frame = with(&tunnel, inner, &wrong.to_be_bytes());
                backend.expect("shorter than its header", &frame, MALFORMED);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_inner_packet_of_another_family_than_the_protocol_says() {
    let mut backend = Backend::new();
    for tunnel in all() {
        let good = if tunnel.inner_is_v4 { 4 } else { 6 };
        // In UDP alone, the version is all that tells the family.
        let told = tunnel.between != Between::Udp;
        for version in (0..16).filter(|version| *version != good && (told || ![4, 6].contains(version))) {
            let expected = match tunnel.between {
                // It is the version of GUE too, and of what follows.
                Between::Udp if version < 4 => Some(Outcome::Options),
                _ => MALFORMED,
            };
            let first = version << 4 | if tunnel.inner_is_v4 { 5 } else { 0 };
            backend.expect("version", &with(&tunnel, tunnel.inner_at(), &[first]), expected);
        }
        if tunnel.inner_is_v4 {
            for words in 0..5 {
                let frame = with(&tunnel, tunnel.inner_at(), &[0x40 | words]);
                backend.expect("too short a header", &frame, MALFORMED);
            }
            let frame = with(&tunnel, tunnel.inner_at(), &[0x4f]);
            backend.expect("a header longer than the packet", &frame, MALFORMED);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn inner_options_are_the_business_of_the_kernel() {
    let mut backend = Backend::new();
    for tunnel in all().into_iter().filter(|tunnel| tunnel.inner_is_v4) {
        let (outcome, _) = backend.send(&with(&tunnel, tunnel.inner_at(), &[0x46]));
        assert!(matches!(outcome, Some(Outcome::Ip | Outcome::Gue)), "{outcome:?}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn outer_headers_that_are_not_plain() {
    let mut backend = Backend::new();
    for tunnel in all() {
        let at = tunnel.outer_at();
        if tunnel.destination.is_ipv4() {
            for first in [0x65, 0x05, 0x44, 0x40] {
                backend.expect("no IPv4 header", &with(&tunnel, at, &[first]), MALFORMED);
            }
            let plain = tunnel.between == Between::Nothing;
            if plain {
                backend.expect("options", &with(&tunnel, at, &[0x46]), Some(Outcome::Options));
            }
            for field in [[0x20, 0], [0, 1], [0x20, 1], [0x3f, 0xff]] {
                backend.expect("fragment", &with(&tunnel, at + 6, &field), Some(Outcome::Fragment));
            }
            let mut frame = tunnel.frame();
            frame[at + 8] ^= 1;
            backend.expect("checksum", &frame, MALFORMED);
        } else {
            for first in [0x40, 0x50, 0x70] {
                backend.expect("no IPv6 header", &with(&tunnel, at, &[first]), MALFORMED);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn of_extension_headers_a_tunnel_encapsulation_limit_alone_is_removed() {
    let mut backend = Backend::new();
    for inner_is_v4 in [true, false] {
        let tunnel = Tunnel { inner_is_v4, ..Tunnel::to(LISTED6) };
        let next = if inner_is_v4 { 4 } else { 41 };
        let packet = |kind: u8, header: [u8; 7]| {
            let payload = [&[next][..], &header, &tunnel.inner()].concat();
            tunnel.around(IpNumber(kind), &payload)
        };
        let limit = [0, 4, 1, 4, 1, 1, 0];
        let frame = packet(60, limit);
        assert_eq!(backend.send(&frame), (Some(Outcome::Ip), tunnel.out()));
        for length in 14 + 40 + 1..frame.len() {
            backend.expect("cut", &frame[..length], MALFORMED);
        }
        for other in
            [[1, 4, 1, 4, 1, 1, 0], [0, 1, 4, 0, 0, 0, 0], [0, 4, 2, 4, 1, 1, 0], [0, 4, 1, 4, 5, 1, 0]]
        {
            backend.expect("other options", &packet(60, other), Some(Outcome::Options));
        }
        backend.expect("first fragment", &packet(44, [0, 0, 1, 0, 0, 0, 7]), Some(Outcome::Fragment));
        backend.expect("later fragment", &packet(44, [0, 1, 0, 0, 0, 0, 7]), Some(Outcome::Fragment));
        backend.expect("routing header", &packet(43, limit), None);
        let mut empty = packet(60, limit);
        empty[14 + 4..14 + 6].copy_from_slice(&[0, 7]);
        backend.expect("shorter than the options", &empty, MALFORMED);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn gue_headers_with_anything_in_them() {
    let mut backend = Backend::new();
    for destination in [LISTED4, LISTED6] {
        let tunnel = Tunnel { between: Between::Gue, ..Tunnel::to(destination) };
        for header in
            [[0x20, 4, 0, 0], [1, 4, 0, 0], [0x1f, 4, 0, 0], [0, 6, 0, 0], [0, 4, 0x80, 0], [0, 4, 0, 1]]
        {
            let frame = with(&tunnel, tunnel.udp_at() + 8, &header);
            backend.expect("not empty", &frame, Some(Outcome::Options));
        }
        for variant in [0x80, 0xc0, 0x50, 0x70] {
            let frame = with(&tunnel, tunnel.udp_at() + 8, &[variant]);
            backend.expect("no such variant", &frame, MALFORMED);
        }
        let short = tunnel.around(IpNumber::UDP, &tunnel.udp(&[0, 4, 0]));
        backend.expect("nothing inside", &short, MALFORMED);
    }
}

/// Whatever comes, bytes go nowhere but in front, and no others change than those that congestion marks.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn whatever_is_overwritten_nothing_else_than_the_outer_headers_goes() {
    let backend = RefCell::new(Backend::new());
    let changes = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>());
    let strategy =
        (any::<prop::sample::Index>(), 0..3_usize, prop::collection::vec(changes, 0..4), any::<bool>());
    let kinds = all();
    let config = ProptestConfig { failure_persistence: None, cases: 4096, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&strategy, |(kind, tags, changes, sum)| {
            let tunnel = Tunnel { tags: vec![9; tags], ..kinds[kind.index(kinds.len())].clone() };
            let mut frame = tunnel.frame();
            for (near, place, value) in changes {
                // Headers rather than payload.
                let place = [place.index(tunnel.outer_at() + 20), place.index(frame.len())][near.index(2)];
                frame[place] = value;
            }
            if sum && tunnel.destination.is_ipv4() {
                sum_again(&mut frame, tunnel.outer_at());
            }
            let (outcome, out) = backend.borrow_mut().send(&frame);
            if matches!(outcome, Some(Outcome::Ip | Outcome::Gue)) {
                let removed = frame.len() - out.len();
                prop_assert!([20, 28, 32, 40, 48, 52].contains(&removed), "{removed}");
                let front = tunnel.outer_at() - 2;
                prop_assert_eq!(&out[..front], &frame[..front]);
                let inner = &frame[front + 2 + removed..];
                let version = out[front + 2] >> 4;
                prop_assert_eq!(&out[front..front + 2], if version == 4 { &[8, 0] } else { &[0x86, 0xdd] });
                let changed = inner.iter().zip(&out[front + 2..]).enumerate().filter(|(_, (a, b))| a != b);
                let changed: Vec<_> = changed.map(|(place, _)| place).collect();
                let may: &[usize] = if version == 4 { &[1, 10, 11] } else { &[1] };
                prop_assert!(changed.iter().all(|place| may.contains(place)), "{:?}", changed);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn udp_to_the_port_that_is_no_gue() {
    let mut backend = Backend::new();
    for destination in [LISTED4, LISTED6] {
        let tunnel = Tunnel { port: GUE_PORT, ..Tunnel::to(destination) };
        for payload in [&b""[..], b"\0", b"GET / HTTP/1.1\r\n\r\n", &[0; 100], &[0xff; 100]] {
            let (outcome, _) = backend.send(&tunnel.around(IpNumber::UDP, &tunnel.udp(payload)));
            assert!(matches!(outcome, Some(Outcome::Malformed | Outcome::Options)), "{outcome:?}");
        }
    }
}
