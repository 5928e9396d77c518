//! Everything that a service may say, and what it means.

use std::net::IpAddr;
use std::time::Duration;

use super::super::model::{
    Admin, ConnectionLimit, Encapsulation, Forward, ForwardingMethod, FullNat, Limits, OnDown, Persistence,
    Ports, Prefix, Quic, Rate, Scheduler, Service, Timeouts, Tunnel, TunnelSource,
};
use super::{read, service};

fn parsed(keys: &str) -> Service {
    let config = read(&service(keys)).unwrap_or_else(|mistakes| panic!("{keys}\n{mistakes}"));
    config.services.into_iter().next().unwrap()
}

/// With one address to listen on and one backend.
fn with(keys: &str) -> Service {
    parsed(&format!("listen: 192.0.2.1:80, backends: [10.0.0.1:80], {keys}"))
}

/// With one address to listen on.
fn pool(keys: &str) -> Service {
    parsed(&format!("listen: 192.0.2.1:80, {keys}"))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
}

#[test]
fn a_listen_address_is_of_either_family_with_a_port_a_range_or_all_of_them() {
    for (written, shown) in [
        ("203.0.113.10:80", "203.0.113.10:80"),
        ("[203.0.113.10:80]", "203.0.113.10:80"),
        ("203.0.113.10:8000-8099", "203.0.113.10:8000-8099"),
        ("[203.0.113.10:8000-8000]", "203.0.113.10:8000"),
        ("203.0.113.10:*", "203.0.113.10:*"),
        ("[203.0.113.10:*]", "203.0.113.10:*"),
        ("203.0.113.10:1-65535", "203.0.113.10:*"),
        ("\"[2001:db8::10]:80\"", "[2001:db8::10]:80"),
        ("[\"[2001:db8::10]:8000-8099\"]", "[2001:db8::10]:8000-8099"),
        ("\"[2001:db8:0:0::10]:*\"", "[2001:db8::10]:*"),
        (
            "[203.0.113.10:443, 203.0.113.10:80, \"[2001:db8::10]:80\"]",
            "203.0.113.10:80 203.0.113.10:443 [2001:db8::10]:80",
        ),
    ] {
        let service = parsed(&format!("listen: {written}, forward: tunnel, backends: [10.0.0.1]"));
        let listens: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listens.join(" "), shown, "{written}");
    }
}

#[test]
fn a_single_port_may_lie_in_a_range_and_other_addresses_and_protocols_are_their_own() {
    let text = |first: &str, second: &str| {
        format!(
            "interfaces: [eth0]\nservices:\n- {{ name: a, {first}, forward: nat, backends: [10.0.0.1:80] }}\n\
             - {{ name: b, {second}, forward: nat, backends: [10.0.0.2:80] }}\n"
        )
    };
    for (first, second) in [
        ("listen: 192.0.2.1:*", "listen: 192.0.2.1:80"),
        ("listen: 192.0.2.1:80", "listen: 192.0.2.1:*"),
        ("listen: 192.0.2.1:8000-8099", "listen: 192.0.2.1:8099"),
        ("listen: 192.0.2.1:8000-8099", "listen: 192.0.2.1:8100-8199"),
        ("listen: 192.0.2.1:*", "listen: 192.0.2.2:*"),
        ("listen: 192.0.2.1:*, protocol: tcp", "listen: 192.0.2.1:*, protocol: udp"),
    ] {
        assert!(read(&text(first, second)).is_ok(), "{first}; {second}: {:?}", read(&text(first, second)));
    }
    let ranges: Vec<String> = (1..=16).map(|n| format!("192.0.2.1:{n}0-{n}9")).collect();
    let ranges = format!("listen: [{}, 192.0.2.1:7, 192.0.2.2:1-9]", ranges.join(", "));
    assert!(read(&text(&ranges, "listen: 192.0.2.1:80")).is_ok(), "sixteen ranges of one address");
}

#[test]
fn a_forwarding_method_is_a_word_or_has_settings() {
    let ip = Tunnel::default();
    let gue = |port| Tunnel { encapsulation: Encapsulation::Gue { port }, ..ip };
    let from = |ipv4: Option<&str>, ipv6: Option<&str>| Tunnel {
        source: TunnelSource { ipv4: ipv4.map(prefix), ipv6: ipv6.map(prefix) },
        ..ip
    };
    for (written, forward) in [
        ("nat", Forward::Nat),
        ("{ nat: {} }", Forward::Nat),
        ("direct", Forward::Direct),
        ("{ direct: }", Forward::Direct),
        ("tunnel", Forward::Tunnel(ip)),
        ("{ tunnel: }", Forward::Tunnel(ip)),
        ("{ tunnel: { encapsulation: ip } }", Forward::Tunnel(ip)),
        ("{ tunnel: { encapsulation: gue } }", Forward::Tunnel(gue(6080))),
        ("{ tunnel: { encapsulation: gue, port: 666 } }", Forward::Tunnel(gue(666))),
        ("{ tunnel: { sources: 10.255.0.0/16 } }", Forward::Tunnel(from(Some("10.255.0.0/16"), None))),
        (
            "{ tunnel: { sources: [\"fd00:ff::/64\", 10.255.0.9] } }",
            Forward::Tunnel(from(Some("10.255.0.9/32"), Some("fd00:ff::/64"))),
        ),
        (
            "{ fullnat: { sources: [10.0.0.6, 10.0.0.5] } }",
            Forward::FullNat(FullNat {
                sources: vec![address("10.0.0.6"), address("10.0.0.5")],
                ports: Ports { first: 1024, last: 65535 },
            }),
        ),
        (
            "{ fullnat: { sources: 10.0.0.5, ports: 20000-29999 } }",
            Forward::FullNat(FullNat {
                sources: vec![address("10.0.0.5")],
                ports: Ports { first: 20000, last: 29999 },
            }),
        ),
        (
            "{ fullnat: { sources: 10.0.0.5, ports: 5000 } }",
            Forward::FullNat(FullNat { sources: vec![address("10.0.0.5")], ports: Ports::one(5000) }),
        ),
    ] {
        assert_eq!(with(&format!("forward: {written}")).forward, forward, "{written}");
    }
}

#[test]
fn every_method_serves_both_families_and_a_tunnel_mixes_them() {
    for (keys, method) in [
        (
            "listen: \"[2001:db8::1]:80\", forward: nat, backends: [\"[2001:db8::2]:80\"]",
            ForwardingMethod::Nat,
        ),
        ("listen: \"[2001:db8::1]:80\", forward: direct, backends: [2001:db8::2]", ForwardingMethod::Direct),
        (
            "listen: \"[2001:db8::1]:80\", forward: { fullnat: { sources: [\"fd00::5\"] } }, backends: \
             [\"[2001:db8::2]:80\"]",
            ForwardingMethod::FullNat,
        ),
        (
            "listen: [192.0.2.1:80, \"[2001:db8::1]:80\"], forward: nat, backends: [10.0.0.1:80, \"[2001:db8::2]:80\"]",
            ForwardingMethod::Nat,
        ),
        ("listen: \"[2001:db8::1]:80\", forward: tunnel, backends: [10.0.0.1]", ForwardingMethod::Tunnel),
        (
            "listen: 192.0.2.1:80, forward: tunnel, backends: [\"[fd00::1]\", 10.0.0.1]",
            ForwardingMethod::Tunnel,
        ),
    ] {
        assert_eq!(parsed(keys).forward.method(), method);
    }
}

#[test]
fn schedulers_have_their_names() {
    for (word, scheduler) in [
        ("maglev", Scheduler::Maglev),
        ("source-hash", Scheduler::SourceHash),
        ("round-robin", Scheduler::RoundRobin),
        ("weighted", Scheduler::Weighted),
        ("least-conn", Scheduler::LeastConn),
        ("failover", Scheduler::Failover),
        ("overflow", Scheduler::Overflow),
        ("random", Scheduler::Random),
    ] {
        let service = with(&format!("forward: nat, scheduler: {word}"));
        assert_eq!((service.scheduler, service.scheduler.as_str()), (scheduler, word));
    }
    for word in ["round-robin", "weighted", "random"] {
        for per_packet in [true, false] {
            let keys = format!("forward: nat, protocol: udp, scheduler: {word}, per_packet: {per_packet}");
            assert_eq!(with(&keys).per_packet, per_packet);
        }
    }
}

#[test]
fn what_becomes_of_flows_is_written_in_words_and_durations() {
    for (keys, down, drain) in [
        ("down: reset, drain: forever", OnDown::Reset, None),
        ("down: rehash, drain: 1s", OnDown::Rehash, Some(1)),
        ("drain: 7d", OnDown::Reset, Some(604_800)),
        ("drain: 1.5h", OnDown::Reset, Some(5400)),
    ] {
        let service = with(&format!("forward: nat, {keys}"));
        assert_eq!((service.down, service.drain), (down, drain.map(Duration::from_secs)), "{keys}");
    }
    let persistence = |ipv4_prefix, ipv6_prefix| {
        Some(Persistence { timeout: Duration::from_secs(300), ipv4_prefix, ipv6_prefix })
    };
    for (written, persistence) in [
        ("5m", persistence(32, 128)),
        ("{ timeout: 5m }", persistence(32, 128)),
        ("{ timeout: 5m, ipv4: 24, ipv6: 64 }", persistence(24, 64)),
    ] {
        assert_eq!(with(&format!("forward: nat, persistence: {written}")).persistence, persistence);
    }
}

#[test]
fn limits_and_lists_reach_the_model() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    for (written, limits) in [
        ("{ new_flows: 10000 }", Limits { new_flows: rate(10_000, 10_000), new_flows_per_source: None }),
        (
            "{ new_flows: { per_second: 7 }, new_flows_per_source: { per_second: 100, burst: 300 } }",
            Limits { new_flows: rate(7, 7), new_flows_per_source: rate(100, 300) },
        ),
    ] {
        assert_eq!(with(&format!("forward: nat, limits: {written}")).limits, limits);
    }
    let service = with(
        "forward: nat, allow: [10.0.0.0/8, 2001:db8::/32, 0.0.0.0/0], deny: [10.1.2.3, \"2001:db8::1\", 10.0.0.0/9]",
    );
    assert_eq!(service.allow, ["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"].map(prefix));
    assert_eq!(service.deny, ["10.1.2.3/32", "2001:db8::1/128", "10.0.0.0/9"].map(prefix));
    assert_eq!(with("forward: nat, deny: []").deny, []);
    let many: Vec<String> = (0..1024).map(|n| format!("10.0.{}.{}", n / 256, n % 256)).collect();
    assert_eq!(with(&format!("forward: nat, deny: [{}]", many.join(", "))).deny.len(), 1024);
    for mss in [536, 1400, 9000] {
        assert_eq!(with(&format!("forward: nat, mss: {mss}")).mss, Some(mss));
    }
}

#[test]
fn a_backend_has_limits_a_state_and_an_id() {
    let limit = |high, low| Some(ConnectionLimit { high, low });
    let service = pool(
        "protocol: udp, quic: { id_length: 4 }, forward: nat, backends: [\
         { address: 10.0.0.1:80, quic_id: \"0a0b0c0d\", limit: 1000 },\
         { address: 10.0.0.2:80, quic_id: \"0A0B0C0E\", limit: { high: 1000 }, state: drain },\
         { address: 10.0.0.3:80, quic_id: \"00000000\", limit: { high: 1000, low: 800 }, state: disabled },\
         { address: 10.0.0.4:80, quic_id: ffffffff, state: active }]",
    );
    assert_eq!(service.quic, Some(Quic { id_length: 4 }));
    let seen: Vec<_> = service.backends.into_iter().map(|b| (b.limit, b.admin, b.quic_id.unwrap())).collect();
    assert_eq!(
        seen,
        [
            (limit(1000, 1000), Admin::Active, vec![10, 11, 12, 13]),
            (limit(1000, 1000), Admin::Drain, vec![10, 11, 12, 14]),
            (limit(1000, 800), Admin::Disabled, vec![0; 4]),
            (None, Admin::Active, vec![255; 4]),
        ]
    );
    let overflow = pool(
        "forward: nat, scheduler: overflow, backends: [{ address: 10.0.0.1:80, limit: 5 }, 10.0.0.2:80]",
    );
    assert_eq!(overflow.backends.iter().map(|b| b.limit).collect::<Vec<_>>(), [limit(5, 5), None]);
}

#[test]
fn a_backend_without_a_port_has_the_one_port_of_the_service_or_the_clients() {
    for (keys, port) in [
        ("listen: 192.0.2.1:80, forward: nat, backends: [10.0.0.1]", Some(80)),
        ("listen: [192.0.2.1:80, 192.0.2.2:80], forward: nat, backends: [10.0.0.1]", Some(80)),
        ("listen: 192.0.2.1:80, forward: direct, backends: [{ address: 10.0.0.1 }]", Some(80)),
        ("listen: 192.0.2.1:*, forward: nat, backends: [10.0.0.1]", None),
        ("listen: 192.0.2.1:80-81, forward: { fullnat: { sources: 10.0.0.5 } }, backends: [10.0.0.1]", None),
        ("listen: [192.0.2.1:22, 192.0.2.1:80-81], forward: nat, backends: [10.0.0.1]", None),
        ("listen: [192.0.2.1:80, 192.0.2.1:443], forward: tunnel, backends: [10.0.0.1]", None),
        ("listen: [192.0.2.1:80, 192.0.2.1:443], forward: tunnel, backends: [10.0.0.1:443]", Some(443)),
        ("listen: 192.0.2.1:8000-8099, forward: direct, backends: [10.0.0.1:8050]", Some(8050)),
        ("listen: 192.0.2.1:8000-8099, forward: nat, backends: [10.0.0.1:80]", Some(80)),
    ] {
        assert_eq!(parsed(keys).backends[0].port, port, "{keys}");
    }
}

#[test]
fn a_check_probes_its_own_port_or_the_backends() {
    let probed = |keys: &str| {
        let service = parsed(&format!("forward: nat, {keys}"));
        service.backends[0].check_address(service.check.as_ref().unwrap()).to_string()
    };
    for (keys, target) in [
        ("listen: 192.0.2.1:80, backends: [10.0.0.1], check: tcp", "10.0.0.1:80"),
        ("listen: 192.0.2.1:80, backends: [10.0.0.1:8080], check: tcp", "10.0.0.1:8080"),
        ("listen: 192.0.2.1:80, backends: [10.0.0.1:8080], check: { tcp: { port: 22 } }", "10.0.0.1:22"),
        ("listen: 192.0.2.1:*, backends: [10.0.0.1], check: { http: { port: 81 } }", "10.0.0.1:81"),
        ("listen: \"[2001:db8::1]:80\", backends: [\"fd00::1\"], check: http", "[fd00::1]:80"),
    ] {
        assert_eq!(probed(keys), target, "{keys}");
    }
}

#[test]
fn flows_and_their_timeouts_are_read() {
    let flows = |text: &str| read(&format!("flows: {text}\n")).unwrap().flows;
    let flows_read = flows(
        "{ ipv4: 16777216, ipv6: 1024, timeouts: { established: 1h, fin_wait: 1s, close_wait: 2s, time_wait: 3s, close: \
         4s, syn_recv: 5s, udp: 7d } }",
    );
    assert_eq!((flows_read.ipv4, flows_read.ipv6), (16_777_216, 1024));
    let Timeouts { established, fin_wait, close_wait, time_wait, close, syn_recv, udp } = flows_read.timeouts;
    let seconds = [established, fin_wait, close_wait, time_wait, close, syn_recv, udp].map(|t| t.as_secs());
    assert_eq!(seconds, [3600, 1, 2, 3, 4, 5, 604_800]);
    assert_eq!(flows("{ timeouts: { udp: 30s } }").timeouts.established, Duration::from_secs(900));
}
