use std::net::SocketAddr;
use std::time::Duration;

use super::super::model::{
    Admin, Backend, Check, CheckKind, Config, Encapsulation, Flows, Forward, Hooks, Instance, Interface,
    Limits, Listen, Metrics, OnDown, Ports, Preempt, Prefix, Priority, Protocol, Scheduler, Service,
    Timeouts, Tunnel, TunnelSource, Vrid, XdpMode,
};
use super::{COMPLETE, host, parse, read};

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn backend(address: &str, weight: u16) -> Backend {
    let socket = socket(address);
    Backend {
        address: socket.ip(),
        port: Some(socket.port()),
        weight,
        limit: None,
        admin: Admin::Active,
        quic_id: None,
    }
}

fn listen(address: &str) -> Listen {
    let socket = socket(address);
    Listen { address: socket.ip(), ports: Ports::one(socket.port()) }
}

/// A service with nothing but what it needs.
fn service(name: &str, protocol: Protocol, forward: Forward) -> Service {
    Service {
        name: name.into(),
        listen: [].into(),
        protocol,
        forward,
        scheduler: Scheduler::Maglev,
        per_packet: false,
        down: OnDown::Reset,
        drain: None,
        persistence: None,
        limits: Limits::default(),
        allow: Vec::new(),
        deny: Vec::new(),
        mss: None,
        quic: None,
        check: None,
        backends: Vec::new(),
    }
}

fn prefix(address: &str, length: u8) -> Prefix {
    Prefix { address: address.parse().unwrap(), length }
}

#[test]
fn every_key_reaches_the_model() {
    let web = Service {
        listen: [listen("203.0.113.10:80"), listen("203.0.113.10:443")].into(),
        check: Some(Check {
            kind: CheckKind::Http {
                path: "/healthz".into(),
                status: 204,
                host: Some("www.example.com".into()),
            },
            every: Duration::from_secs(5),
            timeout: Duration::from_millis(1500),
            rise: 1,
            fall: 4,
            port: None,
        }),
        backends: vec![backend("10.0.0.11:8080", 1), backend("10.0.0.12:8080", 2)],
        ..service("web", Protocol::Tcp, Forward::Nat)
    };
    let dns = Service {
        listen: [listen("203.0.113.10:53")].into(),
        check: Some(Check {
            kind: CheckKind::Tcp,
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            port: None,
        }),
        backends: vec![backend("10.0.0.21:53", 1), backend("10.0.0.22:53", 1), backend("10.0.0.23:53", 0)],
        ..service("dns", Protocol::Udp, Forward::Direct)
    };
    let expected = Config {
        node: "lb-a".into(),
        interfaces: vec![
            Interface { name: "eth0".into(), mode: XdpMode::Auto },
            Interface { name: "eth1".into(), mode: XdpMode::Native },
        ],
        metrics: Some(Metrics { listen: socket("127.0.0.1:9620") }),
        vrrp: vec![Instance {
            priority: Priority::new(150).unwrap(),
            advertise: Duration::from_millis(500),
            preempt: Preempt::Never,
            addresses: vec![prefix("203.0.113.10", 24).into(), prefix("203.0.113.11", 32).into()],
            ..Instance::new("outside", "eth0", Vrid::new(51).unwrap())
        }],
        hooks: Hooks::default(),
        flows: Flows::default(),
        services: vec![web, dns],
    };
    assert_eq!(read(COMPLETE).unwrap(), expected);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = read(
        "interfaces: [eth0]\nvrrp: [{ name: v, interface: eth1, vrid: 1, addresses: [192.0.2.1] }]\nservices: [{ name: s, \
         listen: [192.0.2.1:80], forward: tunnel, backends: [10.0.0.1] }]\n",
    )
    .unwrap();
    assert_eq!(config.node, "host-a");
    assert_eq!(config.metrics, None);
    assert_eq!(config.vrrp[0].priority.as_u8(), 100);
    assert_eq!(config.vrrp[0].advertise, Duration::from_secs(1));
    assert_eq!(config.vrrp[0].preempt, Preempt::After(Duration::ZERO));
    let forward =
        Forward::Tunnel(Tunnel { encapsulation: Encapsulation::Ip, source: TunnelSource::default() });
    let defaults = Service {
        listen: [listen("192.0.2.1:80")].into(),
        backends: vec![backend("10.0.0.1:80", 1)],
        ..service("s", Protocol::Tcp, forward)
    };
    assert_eq!(config.services, [defaults]);
    let Flows { ipv4, ipv6, timeouts } = config.flows;
    assert_eq!((ipv4, ipv6), (1_048_576, 262_144));
    let Timeouts { established, fin_wait, close_wait, time_wait, close, syn_recv, udp } = timeouts;
    let seconds = [established, fin_wait, close_wait, time_wait, close, syn_recv, udp].map(|t| t.as_secs());
    assert_eq!(seconds, [900, 120, 60, 120, 10, 60, 300]);
}

#[test]
fn a_check_may_be_one_word_or_a_kind_without_settings() {
    let check = |check: &str| {
        let text = format!(
            "interfaces: [eth0]\nservices: [{{ name: s, listen: 192.0.2.1:80, forward: nat, check: {check}, backends: \
             [10.0.0.1:80] }}]\n"
        );
        read(&text).unwrap().services[0].check.clone().unwrap()
    };
    assert_eq!(check("tcp"), check("{ tcp: {} }"));
    assert_eq!(check("tcp"), check("{ tcp: }"));
    assert_eq!(check("http"), check("{ http: { path: /, status: 200 } }"));
    assert_eq!(check("{ tcp: {}, every: 500ms }").timeout, Duration::from_millis(500));
}

#[test]
fn a_node_of_vrrp_alone_needs_no_xdp_interface_and_lists_may_be_empty() {
    let vrrp = "vrrp: [{ name: v, interface: eth0, vrid: 255, priority: 255, addresses: [192.0.2.1/32] }]\n";
    assert_eq!(read(vrrp).unwrap().interfaces, []);
    assert_eq!(read("interfaces: [eth0]\nservices: []\nvrrp: []\n").unwrap().services, []);
}

#[test]
fn one_address_may_serve_tcp_and_udp_and_one_server_two_services() {
    let text = "interfaces: [eth0]\nservices:\n\
                - { name: a, listen: 192.0.2.1:53, protocol: tcp, forward: nat, backends: [10.0.0.1:53] }\n\
                - { name: b, listen: 192.0.2.1:53, protocol: udp, forward: nat, backends: [10.0.0.1:53, 10.0.0.1:54] }\n";
    assert_eq!(read(text).unwrap().services.len(), 2);
}

#[test]
fn anchors_and_merge_keys_share_what_services_have_in_common() {
    let text = "interfaces: [eth0]\nservices:\n\
                - { name: a, listen: 192.0.2.1:80, forward: nat, check: &c { tcp: {}, every: 9s }, backends: &b \
                [10.0.0.1:80] }\n\
                - { name: b, listen: 192.0.2.2:80, forward: nat, check: { <<: *c, fall: 7 }, backends: *b }\n";
    let services = read(text).unwrap().services;
    assert_eq!(services[0].backends, services[1].backends);
    let check = services[1].check.clone().unwrap();
    assert_eq!((check.every, check.fall), (Duration::from_secs(9), 7));
}

#[test]
fn a_long_comment_a_byte_order_mark_and_windows_lines_are_no_mistake() {
    let comment = "# a line\n".repeat(500);
    assert!(read(&format!("{comment}{COMPLETE}")).is_ok());
    assert!(read(&format!("\u{feff}{COMPLETE}")).is_ok());
    assert!(read(&COMPLETE.replace('\n', "\r\n")).is_ok());
}

#[test]
fn the_examples_that_are_shipped_are_right() {
    let nginx = include_str!("../../../../deploy/examples/nginx.yaml");
    let mysql = include_str!("../../../../deploy/examples/mysql.yaml");
    for (file, text) in [("nginx.yaml", nginx), ("mysql.yaml", mysql)] {
        let config = parse(text, file, &host()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(config.vrrp.len(), 2, "{file}");
        assert!(!config.services.is_empty(), "{file}");
    }
}

/// A block is the beginning of a file, instances, services, or alternatives for a key of a service, one on each line.
#[test]
fn the_examples_of_the_reference_are_right() {
    const SERVICE: [&str; 4] = [
        "name: s",
        "listen: 192.0.2.1:80",
        "forward: tunnel",
        "backends: [{ address: 10.0.0.1, weight: 1 }]",
    ];
    let reference = include_str!("../../../../docs/configuration.md");
    let (mut sections, mut vrrp, mut services, mut keys) =
        (String::new(), Vec::new(), Vec::new(), Vec::new());
    for block in reference.split("```").filter_map(|block| block.strip_prefix("yaml\n")) {
        match block.split_once(':').unwrap().0 {
            "interfaces" | "metrics" | "hooks" | "flows" => sections.push_str(block),
            "vrrp" => vrrp.push(block),
            "services" => services.push(block),
            _ => keys.extend(block.lines()),
        }
    }
    for (vrrp, services) in
        vrrp.iter().map(|vrrp| (vrrp, &services[0])).chain(services.iter().map(|s| (&vrrp[0], s)))
    {
        let config =
            read(&format!("{sections}{vrrp}{services}")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!((config.interfaces.len(), config.services.len()), (2, 1));
        assert!(!config.vrrp.is_empty() && !config.hooks.scripts.is_empty());
    }
    assert_eq!(vrrp.len(), 3);
    assert_eq!((services.len(), keys.len()), (3, 21));
    for written in keys {
        let key = written.split_once(':').unwrap().0;
        let others = SERVICE.iter().copied().filter(|other| !other.starts_with(&format!("{key}:")));
        let mut service: Vec<&str> = others.collect();
        if key == "forward" {
            service[1] = "listen: [192.0.2.1:80, \"[2001:db8::1]:80\"]";
            service[2] = "backends: [10.0.0.1, \"fd00::1\"]";
        }
        service.push(written);
        let text = format!("interfaces: [eth0]\nservices:\n- {}\n", service.join("\n  "));
        assert!(read(&text).is_ok(), "{written}: {}", read(&text).unwrap_err());
    }
}
