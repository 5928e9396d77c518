//! Everything that an instance may say, and what it means.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use super::super::model::{
    Authentication, Checksum, Effect, HookScript, Hooks, Instance, Key, Preempt, Prefix, Priority, Route,
    Rule, Scope, Script, Secret, Subject, Track, Unicast, Version, VirtualAddress, Vrid,
};
use super::read;

/// Two instances with every key between them.
pub(super) const EVERY_KEY: &str = r#"interfaces: [eth0]
vrrp:
  - name: outside
    interface: eth0
    vrid: 51
    version: 3
    priority: 150
    advertise: 10ms
    preempt: { delay: 30s }
    accept: false
    virtual_mac: true
    checksum: pseudo-header
    unicast: { peers: [192.0.2.2, "fe80::2"], sources: [192.0.2.1, "fe80::1"], min_ttl: 254 }
    authentication: { keys: /etc/evenkeel/vrrp.keys, required: false }
    announce_every: 1m
    addresses:
      - 203.0.113.10/24
      - fe80::10/64
      - { address: 2001:db8::10/64, interface: eth1 }
      - { address: 203.0.113.11, interface: eth0, label: "eth0:web", scope: link }
    routes:
      - { to: default, via: 203.0.113.1, interface: eth0, source: 203.0.113.10, metric: 5, table: 100 }
      - { to: default, via: "2001:db8::1" }
      - { to: 10.0.0.0/8, interface: eth1 }
    rules:
      - { from: 203.0.113.10, to: 10.0.0.0/8, table: 100, priority: 7 }
      - { to: "2001:db8::/32", table: main }
    track:
      - { interface: tun0 }
      - { script: "/etc/evenkeel/check  upstream", every: 5s, timeout: 2s, rise: 1, fall: 9, user: probe, weight: -60 }
      - { script: [/etc/evenkeel/check, "two words"] }
      - { file: /run/weight, weight: 1 }
      - { process: nginx, weight: 253 }
      - { gateway: default }
      - { gateway: "fe80::1", weight: -253 }
      - { service: web, min_backends: 2, weight: -10 }
    group: edge
  - name: inside
    interface: eth1
    vrid: 61
    version: 2
    priority: 150
    preempt: { delay: 0.5m }
    advertise: 255s
    authentication: { password: "12345678" }
    addresses: [10.0.0.1/24]
    group: edge
hooks: { scripts: [/etc/evenkeel/hook, { run: [/bin/hook, a b], user: nobody, timeout: 1s }], fifo: /run/evenkeel/fifo }
services: [{ name: web, listen: 203.0.113.10:80, forward: nat, backends: [10.0.0.11:80, 10.0.0.12:80] }]
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix { address: ip(address), length: length.parse().unwrap() }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// The one instance with these keys besides name, interface and VRID.
fn instance(keys: &str) -> Instance {
    let text = format!("vrrp: [{{ name: v, interface: eth0, vrid: 1, {keys} }}]\n");
    read(&text).unwrap_or_else(|mistakes| panic!("{keys}: {mistakes}")).vrrp.remove(0)
}

#[test]
fn every_key_reaches_the_model() {
    let config = read(EVERY_KEY).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let outside = Instance {
        priority: Priority::new(150).unwrap(),
        advertise: Duration::from_millis(10),
        preempt: Preempt::After(Duration::from_secs(30)),
        accept: false,
        virtual_mac: true,
        checksum: Checksum::PseudoHeader,
        unicast: Some(Unicast {
            peers: vec![ip("192.0.2.2"), ip("fe80::2")],
            sources: vec![ip("192.0.2.1"), ip("fe80::1")],
            min_ttl: 254,
        }),
        authentication: Some(Authentication::Keys {
            keys: vec![
                Key { id: 2, secret: Secret((0..16).collect()) },
                Key { id: 1, secret: Secret(vec![0xff; 16]) },
            ],
            required: false,
        }),
        announce_every: Some(Duration::from_secs(60)),
        addresses: vec![
            prefix("203.0.113.10/24").into(),
            prefix("fe80::10/64").into(),
            VirtualAddress { interface: Some("eth1".into()), ..prefix("2001:db8::10/64").into() },
            VirtualAddress {
                label: Some("eth0:web".into()),
                scope: Scope::Link,
                ..prefix("203.0.113.11/32").into()
            },
        ],
        routes: routes(),
        rules: vec![
            Rule {
                from: Some(prefix("203.0.113.10/32")),
                to: Some(prefix("10.0.0.0/8")),
                table: 100,
                priority: 7,
            },
            Rule { from: None, to: Some(prefix("2001:db8::/32")), table: 254, priority: 1000 },
        ],
        track: tracked(),
        group: Some("edge".into()),
        ..Instance::new("outside", "eth0", Vrid::new(51).unwrap())
    };
    let inside = Instance {
        version: Version::V2,
        priority: outside.priority,
        preempt: outside.preempt,
        advertise: Duration::from_secs(255),
        authentication: Some(Authentication::Password(Secret(b"12345678".to_vec()))),
        addresses: vec![prefix("10.0.0.1/24").into()],
        group: Some("edge".into()),
        ..Instance::new("inside", "eth1", Vrid::new(61).unwrap())
    };
    assert_eq!(config.vrrp, [outside, inside]);
    let hook = |command: &str, user: Option<&str>, timeout| HookScript {
        command: words(command),
        user: user.map(str::to_owned),
        timeout: Duration::from_secs(timeout),
    };
    let scripts = vec![hook("/etc/evenkeel/hook", None, 30), hook("/bin/hook,a b", Some("nobody"), 1)];
    assert_eq!(config.hooks, Hooks { scripts, fifo: Some("/run/evenkeel/fifo".into()) });
}

fn routes() -> Vec<Route> {
    let route = |to: &str| Route {
        to: prefix(to),
        via: None,
        interface: None,
        source: None,
        metric: None,
        table: 254,
    };
    vec![
        Route {
            via: Some(ip("203.0.113.1")),
            interface: Some("eth0".into()),
            source: Some(ip("203.0.113.10")),
            metric: Some(5),
            table: 100,
            ..route("0.0.0.0/0")
        },
        Route { via: Some(ip("2001:db8::1")), ..route("::/0") },
        Route { interface: Some("eth1".into()), ..route("10.0.0.0/8") },
    ]
}

fn tracked() -> Vec<Track> {
    let fault = |subject| Track { subject, effect: Effect::Fault };
    let weight = |subject, weight| Track { subject, effect: Effect::Weight(weight) };
    let script = |command: &str| Script {
        command: words(command),
        user: None,
        every: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    };
    let slow = Script {
        user: Some("probe".into()),
        every: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 1,
        fall: 9,
        ..script("/etc/evenkeel/check,upstream")
    };
    vec![
        fault(Subject::Interface("tun0".into())),
        weight(Subject::Script(slow), -60),
        fault(Subject::Script(script("/etc/evenkeel/check,two words"))),
        weight(Subject::File("/run/weight".into()), 1),
        weight(Subject::Process("nginx".into()), 253),
        fault(Subject::Gateway(None)),
        weight(Subject::Gateway(Some(ip("fe80::1"))), -253),
        weight(Subject::Service { name: "web".into(), min_backends: 2 }, -10),
    ]
}

#[test]
fn what_is_left_out_has_its_default() {
    let expected = Instance {
        addresses: vec![prefix("192.0.2.1/32").into(), prefix("2001:db8::1/128").into()],
        ..Instance::new("v", "eth0", Vrid::new(1).unwrap())
    };
    assert_eq!(instance("addresses: [192.0.2.1, \"2001:db8::1\"]"), expected);
    let unicast = instance("addresses: [192.0.2.1], unicast: { peers: [192.0.2.9] }").unicast.unwrap();
    assert_eq!((unicast.sources, unicast.min_ttl), (vec![], 255));
    let authentication =
        instance("addresses: [192.0.2.1], authentication: { keys: /etc/evenkeel/vrrp.keys }");
    assert!(matches!(authentication.authentication, Some(Authentication::Keys { required: true, .. })));
}

#[test]
fn words_have_their_meaning() {
    for (keys, preempt) in [
        ("preempt: true", Preempt::After(Duration::ZERO)),
        ("preempt: false", Preempt::Never),
        ("preempt: { delay: 1000s }", Preempt::After(Duration::from_secs(1000))),
        ("preempt: { delay: 0s }, priority: 255", Preempt::After(Duration::ZERO)),
    ] {
        assert_eq!(instance(&format!("addresses: [192.0.2.1], {keys}")).preempt, preempt, "{keys}");
    }
    for (word, checksum) in
        [("auto", Checksum::Auto), ("rfc9568", Checksum::Message), ("pseudo-header", Checksum::PseudoHeader)]
    {
        assert_eq!(instance(&format!("addresses: [192.0.2.1], checksum: {word}")).checksum, checksum);
    }
    assert_eq!(
        instance("addresses: [192.0.2.1], unicast: { peers: [192.0.2.9], sources: 192.0.2.8 }")
            .unicast
            .unwrap()
            .sources,
        [ip("192.0.2.8")]
    );
}

#[test]
fn one_vrid_serves_each_family_once_on_an_interface() {
    let text = "vrrp:\n- { name: a, interface: eth0, vrid: 1, addresses: [192.0.2.1] }\n\
                - { name: b, interface: eth0, vrid: 1, addresses: [\"2001:db8::1\"] }\n\
                - { name: c, interface: eth1, vrid: 1, addresses: [192.0.2.2, \"2001:db8::2\"] }\n";
    assert_eq!(read(text).unwrap().vrrp.len(), 3);
}

#[test]
fn a_link_local_address_is_another_one_on_another_interface() {
    let text = |second: &str| {
        format!(
            "vrrp:\n- {{ name: a, interface: eth0, vrid: 1, addresses: [\"fe80::1/64\"] }}\n\
             - {{ name: b, interface: {second}, vrid: 2, addresses: [\"fe80::1/64\"] }}\n"
        )
    };
    assert!(read(&text("eth1")).is_ok());
    assert!(read(&text("eth0")).is_err());
}

#[test]
fn a_group_may_have_one_member() {
    assert_eq!(instance("addresses: [192.0.2.1], group: alone").group.as_deref(), Some("alone"));
}

#[test]
fn every_vrid_with_a_hundred_addresses_is_read() {
    let mut text = "vrrp:\n".to_owned();
    for vrid in 1..=255 {
        let addresses: Vec<String> = (1..=100).map(|host| format!("10.{vrid}.0.{host}/24")).collect();
        writeln!(
            text,
            "- {{ name: v{vrid}, interface: eth0, vrid: {vrid}, group: all, addresses: [{}] }}",
            addresses.join(", ")
        )
        .unwrap();
    }
    let instances = read(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).vrrp;
    assert_eq!(instances.iter().map(|instance| instance.addresses.len()).sum::<usize>(), 25_500);
}

#[test]
fn an_advertisement_is_full_at_255_addresses_of_a_family() {
    let addresses = |count: u32| {
        let v4 = (1..=count).map(|n| format!("10.0.{}.{}", n >> 8, n & 255));
        let v6 = (1..=255).map(|n| format!("\"2001:db8::{n:x}\""));
        format!("addresses: [{}]", v4.chain(v6).collect::<Vec<_>>().join(", "))
    };
    assert_eq!(instance(&addresses(255)).addresses.len(), 510);
}
