//! Everything that a service may not say, and what is said about it.

mod backends;
mod forward;
mod listen;

use super::{one, said, service};

/// The keys of a service, and its one mistake: where, and how the message begins.
type Row<'a> = (&'a str, &'a str, &'a str);

/// Checks rows; every service has `base` as well.
fn refuse(base: &str, rows: &[Row<'_>]) {
    for (keys, path, message) in rows {
        let said = one(&service(&format!("{base}{keys}")));
        let said = said.splitn(3, ':').nth(2).unwrap();
        let path = if path.is_empty() { "services[0]".to_owned() } else { format!("services[0].{path}") };
        assert!(said.starts_with(&format!(" {path}: {message}")), "{keys}:\n{said}");
    }
}

/// One address to listen on and one backend.
const SMALL: &str = "listen: 192.0.2.1:80, backends: [10.0.0.1:80], ";
const NAT: &str = "listen: 192.0.2.1:80, backends: [10.0.0.1:80], forward: nat, ";
const UDP: &str = "listen: 192.0.2.1:80, backends: [10.0.0.1:80], forward: nat, protocol: udp, ";

#[test]
fn words_of_ipvs_are_answered_with_ours() {
    for (theirs, ours) in [
        ("rr", "round-robin"),
        ("wrr", "weighted"),
        ("lc", "least-conn"),
        ("wlc", "least-conn"),
        ("sh", "source-hash"),
        ("mh", "maglev"),
        ("fo", "failover"),
        ("ovf", "overflow"),
        ("dh", "maglev"),
        ("sed", "least-conn"),
        ("nq", "least-conn"),
        ("WLC", "least-conn"),
        ("weighted-round-robin", "weighted"),
    ] {
        let message = format!("`{theirs}` is not the word for a scheduler here; write `{ours}` instead");
        refuse(NAT, &[(&format!("scheduler: {theirs}"), "scheduler", &message)]);
    }
    refuse(
        NAT,
        &[("scheduler: leastcon", "scheduler", "`leastcon` is not a scheduler; did you mean `least-conn`?")],
    );
}

#[test]
fn per_packet_goes_only_with_what_needs_no_flow() {
    let tcp = "`per_packet` would tear TCP connections apart; write `protocol: udp`";
    refuse(NAT, &[("per_packet: true, scheduler: random", "per_packet", tcp)]);
    refuse(
        UDP,
        &[
            (
                "per_packet: true",
                "per_packet",
                "`maglev` does not schedule packet by packet; write `scheduler: round-robin`",
            ),
            (
                "per_packet: true, scheduler: least-conn",
                "per_packet",
                "`least-conn` does not schedule packet by packet",
            ),
            (
                "per_packet: true, scheduler: random, persistence: 5m",
                "per_packet",
                "`per_packet` leaves no flow behind, and `persistence` needs one; remove one of the two",
            ),
            ("per_packet: 1", "per_packet", "1 is neither true nor false"),
        ],
    );
    refuse(
        "listen: 192.0.2.1:80, protocol: udp, scheduler: random, per_packet: true, ",
        &[
            (
                "forward: { fullnat: { sources: 10.0.0.5 } }, backends: [10.0.0.1:80]",
                "per_packet",
                "`per_packet` leaves no flow behind, and `fullnat` needs one",
            ),
            (
                "forward: nat, quic: { id_length: 1 }, backends: [{ address: 10.0.0.1:80, quic_id: \"aa\" }]",
                "per_packet",
                "`per_packet` leaves no flow behind, and `quic` needs one",
            ),
            (
                "forward: nat, backends: [{ address: 10.0.0.1:80, limit: 5 }]",
                "backends[0].limit",
                "`per_packet` leaves no flows that could be counted; remove the limit, or `per_packet`",
            ),
        ],
    );
}

#[test]
fn times_rates_and_lengths_have_their_ranges() {
    refuse(
        NAT,
        &[
            (
                "down: drop",
                "down",
                "`drop` is not a way to treat the flows of a backend that is down; write `reset` or",
            ),
            (
                "drain: never",
                "drain",
                "`never` is no time to drain; write `forever`, or a number and its unit such as `5m`",
            ),
            ("drain: 8d", "drain", "`8d` is out of range; write from 1s to 7d"),
            ("drain: 60", "drain", "60 has no unit; write `60s`"),
            ("persistence: 500ms", "persistence", "`500ms` is out of range; write from 1s to 7d"),
            (
                "persistence: { ipv4: 24 }",
                "persistence",
                "`timeout` is missing in persistence; write `timeout: 5m`",
            ),
            (
                "persistence: { timeout: 5m, ipv4: 33 }",
                "persistence.ipv4",
                "33 is not a prefix length; write a whole",
            ),
            (
                "persistence: { timeout: 5m, ipv6: 0 }",
                "persistence.ipv6",
                "0 is not a prefix length; write a whole number",
            ),
            ("limits: 100", "limits", "100 is not limits; write a mapping such as `{ new_flows: 10000"),
            (
                "limits: { new_flows: 0 }",
                "limits.new_flows",
                "0 is not a number of new flows a second; write a whole",
            ),
            ("limits: { new_flows: { burst: 5 } }", "limits.new_flows", "`per_second` is missing in a rate"),
            (
                "limits: { new_flows_per_source: { per_second: 1, burst: 10000001 } }",
                "limits.new_flows_per_source.burst",
                "10000001 is not a number of new flows; write a whole number from 1 to 10000000",
            ),
            ("mss: 535", "mss", "535 is not an MSS; write a whole number from 536 to 9000"),
        ],
    );
    for (flows, mistake) in [
        (
            "{ ipv4: 1023 }",
            "1:16: flows.ipv4: 1023 is not a number of flows; write a whole number from 1024 to 16777216",
        ),
        ("{ timeouts: { udp: 0s } }", "1:27: flows.timeouts.udp: `0s` is out of range; write from 1s to 7d"),
        (
            "{ timeouts: { estabished: 1h } }",
            "1:22: flows.timeouts.estabished: unknown key in timeouts; did you mean",
        ),
    ] {
        let said = one(&format!("flows: {flows}\n"));
        assert!(said.starts_with(mistake), "{said}");
    }
}

#[test]
fn lists_of_sources_hold_each_prefix_once() {
    let many: Vec<String> = (0..1025).map(|n| format!("10.0.{}.{}", n / 256, n % 256)).collect();
    refuse(
        NAT,
        &[
            (
                "allow: []",
                "allow",
                "the list is empty, which would serve nobody; leave it out to serve everybody",
            ),
            ("allow: [10.0.0.0/8, 10.0.0.0/8]", "allow[1]", "10.0.0.0/8 is in the list already, on line 2"),
            (
                "deny: [\"::/0\", \"0::/0\"]",
                "deny[1]",
                "::/0 is in the list already, on line 2; remove one of the two",
            ),
            (
                "allow: 10.1.2.3, deny: [10.1.2.3/32]",
                "deny[0]",
                "10.1.2.3/32 is in `allow` too, on line 2; remove one",
            ),
            (
                "deny: [10.1.0.0/8]",
                "deny[0]",
                "10.1.0.0 is longer than the prefix of 8 bits; write `10.0.0.0/8`",
            ),
            (
                "deny: [10.0.0.0/33]",
                "deny[0]",
                "`10.0.0.0/33` has no prefix length from 0 to 32 after the `/`",
            ),
            (
                "deny: [\"2001:db8::/129\"]",
                "deny[0]",
                "`2001:db8::/129` has no prefix length from 0 to 128 after the `/`",
            ),
            (
                "deny: [\"::ffff:10.0.0.0/104\"]",
                "deny[0]",
                "::ffff:10.0.0.0 is an IPv4 address in IPv6's form; write 10.",
            ),
            (
                "deny: [example.com]",
                "deny[0]",
                "`example.com` is neither a prefix nor an address; write one such as",
            ),
            (
                &format!("deny: [{}]", many.join(", ")),
                "deny",
                "1025 prefixes; a list has at most 1024, so join neighbours",
            ),
        ],
    );
}

#[test]
fn all_mistakes_of_a_service_are_reported_at_once_with_their_places() {
    let text = "interfaces: [eth0]\nservices:\n- name: a\n  listen: 192.0.2.1:80\n  forward: { tunnel: { encapsulation: udp } \
                }\n  scheduler: rr\n  per_packet: true\n  drain: 1\n  persistence: {}\n  limits: { new_flows: -1 }\n  \
                allow: [10.0.0.0/99]\n  deny: [x]\n  mss: 1\n  quic: {}\n  check: { tcp: { port: 0 } }\n  backends:\n  - { \
                address: 10.0.0.1, state: gone, limit: {}, quic_id: zz }\n";
    let places: Vec<String> = said(text)
        .iter()
        .map(|line| {
            line.trim_start_matches("evenkeel.yaml:").split(": ").take(2).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        places,
        [
            "5:39 services[0].forward.tunnel.encapsulation",
            "6:14 services[0].scheduler",
            "7:15 services[0].per_packet",
            "7:15 services[0].per_packet",
            "7:15 services[0].per_packet",
            "8:10 services[0].drain",
            "9:16 services[0].persistence",
            "10:24 services[0].limits.new_flows",
            "11:11 services[0].allow[0]",
            "12:10 services[0].deny[0]",
            "13:8 services[0].mss",
            "13:8 services[0].mss",
            "14:9 services[0].quic",
            "14:9 services[0].quic",
            "15:25 services[0].check.tcp.port",
            "17:33 services[0].backends[0].state",
            "17:46 services[0].backends[0].limit",
            "17:59 services[0].backends[0].quic_id",
        ]
    );
}
