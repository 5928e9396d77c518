//! Everything that a service may not say, and what is said about it.

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
fn addresses_of_services_are_those_of_one_host_on_the_network() {
    let rows = |address: &str, message: &str| {
        let keys = format!("listen: \"{address}\", forward: tunnel, backends: [10.0.0.1]");
        refuse("", &[(&keys, "listen", message)]);
    };
    for (address, message) in [
        (
            "[fe80::1]:80",
            "fe80::1 is a link-local address, which means another host on every link; write a global",
        ),
        ("[ff02::1]:80", "ff02::1 is an address of many hosts; write the address of one"),
        ("[::]:80", ":: stands for every address; write one address"),
        ("[::1]:80", "::1 is a loopback address"),
        ("[::ffff:192.0.2.1]:80", "::ffff:192.0.2.1 is an IPv4 address in IPv6's form; write 192.0.2.1"),
        ("255.255.255.255:80", "255.255.255.255 is an address of many hosts"),
        (
            "2001:db8::1",
            "`2001:db8::1` has no port; write address and port, an IPv6 address in brackets, such as \
             `\"[2001:db8::1]:80\"`",
        ),
        ("2001:db8::1:*", "an IPv6 address with a port is written in brackets: `\"[2001:db8::1]:*\"`"),
        (
            "2001:db8:0:0:0:0:0:1:80",
            "an IPv6 address with a port is written in brackets: `\"[2001:db8:0:0:0:0:0:1]:80\"`",
        ),
        ("[2001:db8::1]", "`2001:db8::1` has no port; write address and port, an IPv6 address in brackets"),
        ("[2001:db8::1]80", "`[2001:db8::1]80` goes on after the bracket without a `:`"),
        ("[2001:db8::g]:80", "`2001:db8::g` is not an IPv6 address; write address and port"),
        ("192.0.2.1:8099-8000", "the range 8099-8000 ends before it begins"),
        ("192.0.2.1:0-80", "`0` is not a port from 1 to 65535"),
        ("192.0.2.1:80-", "`` is not a port from 1 to 65535"),
        ("192.0.2.1:a-b", "`a` is not a port from 1 to 65535"),
    ] {
        rows(address, message);
    }
    refuse(
        "",
        &[(
            "listen: { 203.0.113.10: 80 }, forward: tunnel, backends: [10.0.0.1]",
            "listen",
            "a mapping is not an address and port; write one such as `203.0.113.10:80`, and an IPv6 address with a port in \
         quotes: `\"[2001:db8::10]:80\"`",
        )],
    );
}

#[test]
fn ranges_of_ports_do_not_overlap() {
    let second = |first: &str, second: &str| {
        one(&format!(
            "interfaces: [eth0]\nservices:\n- {{ name: a, listen: {first}, forward: nat, backends: [10.0.0.1:80] }}\n\
             - {{ name: b, listen: {second}, forward: nat, backends: [10.0.0.2:80] }}\n"
        ))
    };
    for (first, other) in [
        ("192.0.2.1:8000-8099", "192.0.2.1:8099-8100"),
        ("192.0.2.1:8000-8099", "192.0.2.1:*"),
        ("192.0.2.1:*", "192.0.2.1:8000-8099"),
    ] {
        assert_eq!(
            second(first, other),
            format!(
                "4:22: services[1].listen: {other} overlaps {first} on line 3; write ranges that share no port (a single \
                 port may lie in a range, and wins)"
            )
        );
    }
    for same in ["192.0.2.1:*", "192.0.2.1:80-90"] {
        let said = second(same, same);
        assert!(said.contains(&format!("{same} is a listen address already, on line 3")), "{said}");
    }
    let ranges: Vec<String> = (1..=17).map(|n| format!("192.0.2.1:{n}0-{n}9")).collect();
    refuse(
        "forward: nat, backends: [10.0.0.1:80], ",
        &[(
            &format!("listen: [{}]", ranges.join(", ")),
            "listen[16]",
            "192.0.2.1:170-179 is one range too many: an address has at most 16 for one protocol, all services together; \
         write wider ranges, or `192.0.2.1:*`",
        )],
    );
}

#[test]
fn a_forwarding_method_has_the_settings_it_needs_and_no_others() {
    let many: Vec<String> = (1..=17).map(|n| format!("10.0.1.{n}")).collect();
    refuse(
        SMALL,
        &[
            (
                "forward: DR",
                "forward",
                "`DR` is not the word for a forwarding method here; write `direct` instead",
            ),
            (
                "forward: ipip",
                "forward",
                "`ipip` is not the word for a forwarding method here; write `tunnel` instead",
            ),
            ("forward: tunel", "forward", "`tunel` is not a forwarding method; did you mean `tunnel`?"),
            (
                "forward: [nat]",
                "forward",
                "a list is not a forwarding method; write `nat`, `fullnat`, `tunnel` or",
            ),
            (
                "forward: {}",
                "forward",
                "there is no forwarding method; write `nat`, `direct`, `tunnel` or `fullnat`",
            ),
            (
                "forward: { nat: {}, tunnel: {} }",
                "forward",
                "both `nat` and `tunnel`; a service has one forwarding",
            ),
            (
                "forward: { nat: { port: 1 } }",
                "forward.nat.port",
                "unknown key in a method without settings; there are no",
            ),
            (
                "forward: fullnat",
                "forward",
                "`fullnat` needs source addresses; write `{ fullnat: { sources: [10.0.0.5] } }` with addresses of this node",
            ),
            (
                "forward: { fullnat: {} }",
                "forward.fullnat",
                "`sources` is missing in fullnat; write `sources: [10.0.0.5]`",
            ),
            (
                "forward: { fullnat: { sources: [] } }",
                "forward.fullnat.sources",
                "the list is empty; write addresses of",
            ),
            (
                "forward: { fullnat: { sources: [10.0.0.5, 10.0.0.5] } }",
                "forward.fullnat.sources[1]",
                "10.0.0.5 is in the list already, on line 2; remove one of the two",
            ),
            (
                "forward: { fullnat: { sources: 10.0.0.0/24 } }",
                "forward.fullnat.sources",
                "`10.0.0.0/24` is not an address; write one such as `10.0.0.5`",
            ),
            (
                "forward: { fullnat: { sources: 192.0.2.1 } }",
                "forward.fullnat.sources",
                "192.0.2.1 is the listen address of a service, on line 2; write an address of this node that nothing else",
            ),
            (
                "forward: { fullnat: { sources: \"fd00::5\" } }",
                "forward",
                "the service listens on IPv4, and `sources` has no IPv4 address; add one of this node that nothing else uses, \
             such as `10.0.0.5`",
            ),
            (
                &format!("forward: {{ fullnat: {{ sources: [{}] }} }}", many.join(", ")),
                "forward.fullnat.sources",
                "17 IPv4 addresses; write at most 16 of each family",
            ),
            (
                "forward: { fullnat: { sources: 10.0.0.5, ports: many } }",
                "forward.fullnat.ports",
                "`many` is not a port from 1 to 65535; write ports such as `1024-65535`",
            ),
            (
                "forward: { tunnel: { encapsulation: gre } }",
                "forward.tunnel.encapsulation",
                "`gre` is not an encapsulation; did you mean `gue`?",
            ),
            (
                "forward: { tunnel: { port: 6080 } }",
                "forward.tunnel.port",
                "only `gue` has a port; write `encapsulation: gue` too, or remove the port",
            ),
            (
                "forward: { tunnel: { sources: [10.1.0.0/16, 10.2.0.0/16] } }",
                "forward.tunnel.sources[1]",
                "there is an IPv4 prefix already, on line 2; write one for each family",
            ),
            (
                "forward: { tunnel: { sources: 10.1.2.3/16 } }",
                "forward.tunnel.sources",
                "10.1.2.3 is longer than the prefix of 16 bits; write `10.1.0.0/16` for the network, or `10.1.2.3` for the one",
            ),
            (
                "forward: { tunnel: { sources: \"fe80::/64\" } }",
                "forward.tunnel.sources",
                "fe80:: is a link-local",
            ),
        ],
    );
}

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
fn an_mss_is_lowered_only_where_both_handshakes_pass() {
    refuse(UDP, &[("mss: 1400", "mss", "UDP has no MSS; remove it")]);
    for method in ["tunnel", "direct"] {
        let message = format!(
            "with `{method}` the backend answers the client itself, so the answer, which carries the server's MSS, does \
             not pass this node; set the MSS on the backend"
        );
        refuse(SMALL, &[(&format!("forward: {method}, mss: 1400"), "mss", &message)]);
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
fn quic_needs_udp_and_an_id_for_every_backend() {
    let quic = "listen: 192.0.2.1:443, forward: nat, protocol: udp, quic: { id_length: 2 }, ";
    refuse(
        quic,
        &[
            (
                "backends: [10.0.0.1:443]",
                "backends[0]",
                "`quic_id` is missing, by which the service's `quic` finds the backend; write `{ address: 10.0.0.11:443, \
             quic_id: \"0a0b\" }`",
            ),
            (
                "backends: [{ address: 10.0.0.1:443, quic_id: \"0a0b0c\" }]",
                "backends[0].quic_id",
                "`0a0b0c` is not a server id of 2 bytes in hexadecimal; write one such as `\"0a0b\"`",
            ),
            (
                "backends: [{ address: 10.0.0.1:443, quic_id: \"0x0a\" }]",
                "backends[0].quic_id",
                "`0x0a` is not a server id",
            ),
            (
                "backends: [{ address: 10.0.0.1:443, quic_id: 1234 }]",
                "backends[0].quic_id",
                "1234 is not text, as YAML reads it; write it in quotes: `\"1234\"`",
            ),
            (
                "backends: [{ address: 10.0.0.1:443, quic_id: \"aabb\" }, { address: 10.0.0.2:443, quic_id: \"AABB\" }]",
                "backends[1].quic_id",
                "`AABB` is the id of another backend of this service, on line 2; give each its own",
            ),
        ],
    );
    refuse(
        "listen: 192.0.2.1:443, forward: nat, ",
        &[
            (
                "protocol: udp, backends: [{ address: 10.0.0.1:443, quic_id: \"aabb\" }]",
                "backends[0].quic_id",
                "the service does not route by QUIC connection ids; write `quic: { id_length: 4 }` in it, or remove the id",
            ),
            (
                "quic: { id_length: 2 }, backends: [{ address: 10.0.0.1:443, quic_id: \"aabb\" }]",
                "quic",
                "QUIC is UDP; write `protocol: udp`, or remove `quic`",
            ),
            (
                "protocol: udp, quic: { id_length: 9 }, backends: [{ address: 10.0.0.1:443, quic_id: \"aabb\" }]",
                "quic.id_length",
                "9 is not the length of a server id in bytes; write a whole number from 1 to 8",
            ),
        ],
    );
}

#[test]
fn backends_have_ports_limits_and_states_that_make_sense() {
    refuse(
        "listen: 192.0.2.1:80, forward: nat, ",
        &[
            (
                "backends: [{ address: 10.0.0.1:80, limit: { high: 10, low: 11 } }]",
                "backends[0].limit.low",
                "11 is not a number of flows up to `high`; write a whole number from 1 to 10",
            ),
            (
                "backends: [{ address: 10.0.0.1:80, limit: 0 }]",
                "backends[0].limit",
                "0 is not a number of flows",
            ),
            (
                "backends: [{ address: 10.0.0.1:80, limit: {} }]",
                "backends[0].limit",
                "`high` is missing in a limit",
            ),
            (
                "backends: [{ address: 10.0.0.1:80, state: up }]",
                "backends[0].state",
                "`up` is not a state of a backend;",
            ),
            (
                "backends: [10.0.0.1:80-81]",
                "backends[0]",
                "`80-81` is more than one port; write one, or leave it out for the port that the client wrote",
            ),
            (
                "backends: [{ address: 10.0.0.1, weight: 2 }, 10.0.0.1:80]",
                "backends[1]",
                "10.0.0.1:80 is a backend of this service already, on line 2; use `weight`",
            ),
            (
                "scheduler: overflow, backends: [10.0.0.1:80, 10.0.0.2:80]",
                "backends[0]",
                "with `overflow` every backend but the last needs a `limit`, beyond which the next one takes over; write",
            ),
        ],
    );
    let many: Vec<String> = (1..=61).map(|n| format!("{{ address: 10.0.0.{n}:80, limit: 9 }}")).collect();
    refuse(
        "listen: 192.0.2.1:80, forward: nat, ",
        &[(
            &format!("scheduler: overflow, backends: [{}]", many.join(", ")),
            "backends",
            "61 backends; `overflow` has at most 60",
        )],
    );
    refuse(
        "forward: direct, listen: [192.0.2.1:80, 192.0.2.1:8000-8099], ",
        &[(
            "backends: [10.0.0.1:443]",
            "backends[0]",
            "port 443 is not a port of this service; `direct` does not rewrite the port, so leave it out or write `80`, \
         `8000-8099`, or use `forward: nat`",
        )],
    );
    for method in ["nat", "{ fullnat: { sources: 10.0.0.5 } }"] {
        refuse(
            "listen: [192.0.2.1:80, 192.0.2.1:443], backends: [10.0.0.1], ",
            &[(
                &format!("forward: {method}"),
                "backends[0]",
                "`10.0.0.1` has no port, and the service listens on several; write address and port, such as `10.0.0.1:8080`",
            )],
        );
    }
}

#[test]
fn a_check_needs_a_port_to_probe() {
    for (forward, listen) in [("nat", "192.0.2.1:*"), ("tunnel", "[192.0.2.1:80, 192.0.2.1:443]")] {
        let base = format!("forward: {forward}, listen: {listen}, backends: [10.0.0.1], ");
        for kind in ["tcp", "http"] {
            let message = format!(
                "the service listens on several ports and backends are written without one, so there is no port to \
                 probe; write it in the check, such as `{{ {kind}: {{ port: 80 }} }}`"
            );
            refuse(&base, &[(&format!("check: {kind}"), "check", &message)]);
        }
    }
}

#[test]
fn only_a_tunnel_carries_one_family_in_the_other() {
    for method in ["nat", "direct", "{ fullnat: { sources: [10.0.0.5, \"fd00::5\"] } }"] {
        let name = method.trim_start_matches("{ ").split(':').next().unwrap();
        let base = format!("forward: {method}, ");
        let no_backend = format!(
            "`{name}` does not change IPv6 to IPv4, and no backend is IPv6; add an IPv6 backend, listen elsewhere, or use"
        );
        let no_listen = format!(
            "`{name}` does not change IPv4 to IPv6, and the service does not listen on IPv6; remove the backend, add an"
        );
        refuse(
            &base,
            &[
                ("listen: \"[2001:db8::1]:80\", backends: [10.0.0.1:80]", "listen", &no_backend),
                (
                    "listen: [192.0.2.1:80, \"[2001:db8::1]:80\"], backends: [10.0.0.1:80]",
                    "listen[1]",
                    &no_backend,
                ),
                (
                    "listen: 192.0.2.1:80, backends: [10.0.0.1:80, \"[2001:db8::2]:80\"]",
                    "backends[1]",
                    &no_listen,
                ),
            ],
        );
    }
}

#[test]
fn a_backend_in_the_range_of_a_service_is_refused() {
    for (keys, shown) in [
        ("listen: 192.0.2.1:8000-8099, backends: [192.0.2.1:8050]", "192.0.2.1:8050"),
        ("listen: 192.0.2.1:*, backends: [192.0.2.1]", "192.0.2.1"),
        ("listen: \"[2001:db8::1]:*\", backends: [\"[2001:db8::1]:80\"]", "[2001:db8::1]:80"),
    ] {
        let message =
            format!("{shown} is the listen address of a service, on line 2; write the address of the server");
        refuse("forward: nat, ", &[(keys, "backends[0]", &message)]);
    }
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
