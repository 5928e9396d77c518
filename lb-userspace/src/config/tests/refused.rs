use super::{COMPLETE, changed, one, said};

/// The one mistake in a service with these keys, on line 3.
fn service(keys: &str) -> String {
    one(&format!("interfaces: [eth0]\nservices:\n- {{ {keys} }}\n"))
}

/// The one mistake in a check, in column 57 of line 3.
fn check(check: &str) -> String {
    service(&format!("name: a, listen: 192.0.2.1:80, forward: nat, check: {check}, backends: [10.0.0.1:80]"))
}

#[test]
fn an_unknown_key_is_named_with_the_key_that_was_meant() {
    assert_eq!(
        changed("protocol: tcp", "protocoll: tcp"),
        "17:5: services[0].protocoll: unknown key in a service; did you mean `protocol`?"
    );
    assert_eq!(
        changed("weight: 2", "size: 2"),
        "23:36: services[0].backends[1].size: unknown key in a backend; the keys here are `address`, `weight`, `limit`, \
         `state`, `quic_id`"
    );
    assert_eq!(changed("node:", "nod:"), "1:1: nod: unknown key in a configuration; did you mean `node`?");
    assert_eq!(changed("node: lb-a", "12: lb-a").split(';').next(), Some("1:1: 12 is not a key"));
}

#[test]
fn a_misspelt_key_that_must_be_there_is_one_mistake() {
    assert_eq!(
        changed("listen: 203", "lisen: 203"),
        "25:5: services[1].lisen: unknown key in a service; did you mean `listen`?"
    );
}

#[test]
fn a_missing_key_is_named_with_an_example() {
    assert_eq!(
        changed("    vrid: 51\n", ""),
        "6:5: vrrp[0]: `vrid` is missing in a VRRP instance; write `vrid: 51`"
    );
    assert_eq!(
        service("name: a, forward: nat, backends: [10.0.0.1:80]"),
        "3:3: services[0]: `listen` is missing in a service; write `listen: [203.0.113.10:80]`"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_described() {
    assert_eq!(
        changed("metrics: { listen: 127.0.0.1:9620 }", "metrics: 127.0.0.1:9620"),
        "3:10: metrics: `127.0.0.1:9620` is not metrics; write a mapping such as `{ listen: 127.0.0.1:9620 }`"
    );
    assert_eq!(
        changed("interfaces: [eth0, { name: eth1, mode: native }]", "interfaces: eth0"),
        "2:13: interfaces: `eth0` is not a list; write one such as `[eth0, eth1]`"
    );
    assert_eq!(
        changed("name: dns", "name: 1.10"),
        "24:11: services[1].name: 1.10 is not text, as YAML reads it; write it in quotes: `\"1.10\"`"
    );
    assert_eq!(
        changed("vrid: 51", "vrid: \"51\""),
        "8:11: vrrp[0].vrid: `51` is not a VRID; write a whole number from 1 to 255, without quotes"
    );
    assert_eq!(
        changed("preempt: false", "preempt: no"),
        "11:14: vrrp[0].preempt: `no` does not say whether to preempt; write `true`, `false` or `{ delay: 30s }`"
    );
    assert_eq!(
        one("vrrp:\n"),
        "1:5: vrrp: an empty value is not a list; write one such as `[{ name: outside, interface: eth0, vrid: 51, \
         addresses: [203.0.113.10/24] }]`"
    );
    assert_eq!(one("- node: a\n").split(';').next(), Some("1:1: a list is not a configuration"));
}

#[test]
fn an_address_that_is_none_is_refused() {
    let backend = |address: &str| changed("      - 10.0.0.11:8080", &format!("      - {address}"));
    for (address, problem) in [
        ("10.0.0.256:8080", "`10.0.0.256:8080` is not an address; write address and port"),
        ("web1:8080", "`web1:8080` is not an address, and names are not looked up; write address and port"),
        (
            "10.0.0.11",
            "`10.0.0.11` has no port, and the service listens on several; write address and port, such as `10.0.0.11:8080`",
        ),
        ("10.0.0.11:http", "`http` is not a port from 1 to 65535; write address and port"),
        ("10.0.0.11:70000", "`70000` is not a port from 1 to 65535; write address and port"),
        ("10.0.0.11:0", "`0` is not a port from 1 to 65535; write address and port"),
        ("0.0.0.0:80", "0.0.0.0 stands for every address; write one address"),
        ("224.0.0.18:80", "224.0.0.18 is an address of many hosts; write the address of one"),
        ("127.0.0.1:80", "127.0.0.1 is a loopback address"),
    ] {
        let said = backend(address);
        assert!(said.starts_with(&format!("22:9: services[0].backends[0]: {problem}")), "{said}");
    }
    let said = changed("listen: 203.0.113.10:53", "listen: 203.0.113.10");
    assert!(said.starts_with("25:13: services[1].listen: `203.0.113.10` has no port; write"), "{said}");
    let said = changed("127.0.0.1:9620", "localhost:9620");
    assert!(
        said.starts_with("3:20: metrics.listen: `localhost:9620` is not an address, and names are"),
        "{said}"
    );
}

#[test]
fn a_virtual_address_that_no_host_can_have_is_refused() {
    let prefix = |prefix: &str| changed("203.0.113.10/24,", &format!("{prefix},"));
    for (address, problem) in [
        (
            "203.0.113.0/24",
            "203.0.113.0/24 is the address of the network itself; write the address of a host in it",
        ),
        ("203.0.113.255/24", "203.0.113.255/24 is the broadcast address itself"),
        ("203.0.113.10/33", "`203.0.113.10/33` has no network length from 1 to 32 after the `/`"),
        ("203.0.113.10/0", "`203.0.113.10/0` has no network length from 1 to 32 after the `/`"),
        ("203.0.113.10/", "`203.0.113.10/` has no network length from 1 to 32 after the `/`"),
        ("vip/24", "`vip` is not an address; write one and the length of its network"),
        (
            "2001:db8::/64",
            "2001:db8::/64 is the anycast address of the network's routers itself; write the address of a host in it",
        ),
        ("2001:db8::10/129", "`2001:db8::10/129` has no network length from 1 to 128 after the `/`"),
        ("::ffff:192.0.2.1/120", "::ffff:192.0.2.1 is an IPv4 address in IPv6's form; write 192.0.2.1"),
    ] {
        let said = prefix(address);
        assert!(said.starts_with(&format!("12:17: vrrp[0].addresses[0]: {problem}")), "{said}");
    }
    assert!(
        changed("[203.0.113.10/24, 203.0.113.11]", "[]")
            .starts_with("12:16: vrrp[0].addresses: 0 addresses; an")
    );
}

#[test]
fn a_vrid_outside_1_to_255_is_refused() {
    for vrid in ["0", "256", "-1", "51.5", "99999999999999999999999"] {
        assert_eq!(
            changed("vrid: 51", &format!("vrid: {vrid}")),
            format!("8:11: vrrp[0].vrid: {vrid} is not a VRID; write a whole number from 1 to 255")
        );
    }
}

#[test]
fn a_priority_outside_1_to_255_is_refused() {
    for priority in ["0", "256"] {
        assert_eq!(
            changed("priority: 150", &format!("priority: {priority}")),
            format!(
                "9:15: vrrp[0].priority: {priority} is not a priority; write a whole number from 1 to 255"
            )
        );
    }
}

#[test]
fn a_weight_below_0_is_refused() {
    for weight in ["-1", "65536", "1.5", ".inf", "1e999"] {
        assert_eq!(
            changed("weight: 2", &format!("weight: {weight}")),
            format!(
                "23:44: services[0].backends[1].weight: {weight} is not a weight; write a whole number from 0 to 65535"
            )
        );
    }
}

#[test]
fn an_interface_that_is_not_there_is_refused() {
    assert_eq!(
        changed("name: eth1", "name: eht1"),
        "2:28: interfaces[1].name: there is no interface `eht1`; did you mean `eth1`? This host has `eth0`, `eth1`, `lo`"
    );
    assert_eq!(
        changed("interface: eth0", "interface: wan"),
        "7:16: vrrp[0].interface: there is no interface `wan`; this host has `eth0`, `eth1`, `lo`"
    );
    assert_eq!(
        changed("name: eth1", "name: eth0"),
        "2:20: interfaces[1]: `eth0` is in the list already, on line 2; remove one of the two"
    );
}

#[test]
fn services_without_an_interface_are_refused() {
    let said = changed("interfaces: [eth0, { name: eth1, mode: native }]\n", "");
    assert!(said.starts_with("14:3: services: services need `interfaces`; name the interfaces"), "{said}");
    let said = changed("[eth0, { name: eth1, mode: native }]", "[]");
    assert!(said.starts_with("2:13: interfaces: the list is empty; name the interfaces"), "{said}");
}

#[test]
fn a_service_without_backends_or_listen_address_is_refused() {
    let said = service("name: a, listen: 192.0.2.1:80, forward: nat, backends: []");
    assert!(said.starts_with("3:60: services[0].backends: a service needs a backend; write"), "{said}");
    let said = service("name: a, listen: [], forward: nat, backends: [10.0.0.1:80]");
    assert!(said.starts_with("3:22: services[0].listen: a service listens somewhere; write"), "{said}");
}

#[test]
fn a_duration_needs_a_unit_and_a_range() {
    let advertise = |text: &str| changed("advertise: 500ms", &format!("advertise: {text}"));
    let at = "10:16: vrrp[0].advertise: ";
    assert_eq!(
        advertise("1"),
        format!("{at}1 has no unit; write `1s` for seconds or `1ms` for milliseconds")
    );
    assert_eq!(
        advertise("0.5"),
        format!("{at}0.5 has no unit; write `0.5s` for seconds or `0.5ms` for milliseconds")
    );
    assert!(
        advertise("soon").starts_with(&format!("{at}`soon` is not a duration; write a number and its unit"))
    );
    assert_eq!(advertise("1ms"), format!("{at}`1ms` is out of range; write from 10ms to 40.95s"));
    assert_eq!(advertise("41s"), format!("{at}`41s` is out of range; write from 10ms to 40.95s"));
    let said = advertise("1.005s");
    assert!(said.starts_with(&format!("{at}1.005s is not a whole number of centiseconds")), "{said}");
    assert!(said.ends_with("write 1s or another multiple of 10ms"), "{said}");
}

#[test]
fn a_check_that_cannot_work_is_refused() {
    let at = "3:57: services[0].check";
    assert!(check("tpc").starts_with(&format!("{at}: `tpc` is not a check; did you mean `tcp`?")));
    assert!(
        check("{ every: 1s }").starts_with(&format!("{at}: the check does not say how; add `tcp: {{}}`"))
    );
    assert!(check("{ tcp: {}, http: {} }").starts_with(&format!("{at}: both `tcp` and `http`; keep one")));
    assert_eq!(
        check("{ tcp: {}, timeout: 3s }"),
        "3:77: services[0].check.timeout: 3s is longer than `every`, 2s; a probe must end before the next begins, so write \
         at most 2s, or a longer `every`"
    );
    assert_eq!(
        check("{ tcp: {}, rise: 0 }"),
        "3:74: services[0].check.rise: 0 is not a number of probes in a row; write a whole number from 1 to 100"
    );
    assert!(
        check("{ http: { path: healthz } }")
            .contains("check.http.path: `healthz` is not the path of a request; write")
    );
    assert!(check("{ http: { path: \"/a\\r\\nb\" } }").contains("`/a\\r\\nb` is not the path of a request"));
    assert!(
        check("{ http: { host: \"a\\r\\nb\" } }")
            .contains("check.http.host: `a\\r\\nb` is not a host name; write")
    );
    assert!(check("{ http: { status: 100 } }").ends_with("write a whole number from 200 to 599"));
    assert!(check("{ tcp: { path: / } }").ends_with("unknown key in a TCP check; the keys here are `port`"));
    assert!(
        check("{ tcp: { port: 0 } }")
            .ends_with("check.tcp.port: 0 is not a port; write a whole number from 1 to 65535")
    );
}

#[test]
fn what_this_version_does_not_have_is_said_to_be_missing() {
    assert_eq!(
        changed("check: tcp", "check: mysql"),
        "28:12: services[1].check: `mysql` is not available in this version; write `tcp` or `http`"
    );
    let said = changed("check: tcp", "check: { mysql: { user: monitor } }");
    assert!(
        said.starts_with("28:14: services[1].check.mysql: `mysql` is not available in this version; "),
        "{said}"
    );
}

#[test]
fn a_wrong_choice_is_shown_with_the_right_ones() {
    assert_eq!(
        changed("mode: native", "mode: natvie"),
        "2:40: interfaces[1].mode: `natvie` is not a way to attach XDP; did you mean `native`?"
    );
    assert_eq!(
        changed("protocol: udp", "protocol: [udp]"),
        "26:15: services[1].protocol: a list is not a protocol; write `tcp` or `udp`"
    );
}

#[test]
fn text_that_is_not_yaml_is_shown_where_it_stops_being_yaml() {
    for (text, at, hint) in [
        ("node: [a, b\nmetrics: 1\n", "2:8: this is not YAML", "brackets"),
        ("node: a\n\tvrrp: []\n", "2:1: this is not YAML", "spaces, not tabs"),
        ("node: a: b\n", "1:8: this is not YAML", "quote a text that contains `: `"),
        ("node: \"a\n", "2:1: this is not YAML", "quotes"),
        ("node: !secret a\n", "1:15: this is not YAML", "remove the tag"),
        ("node: a\n---\nnode: b\n", "3:1: a second document begins here", "remove the `---`"),
        ("node: *a\n", "1:7: this alias has no anchor", "`&name`"),
        (
            "listen: [2001:db8::1]:80\n",
            "1:22: this is not YAML",
            "is written in quotes: `\"[2001:db8::1]:80\"`",
        ),
        (
            "- listen:\n  - [2001:db8::1]:8-9\n",
            "2:18: this is not YAML",
            "is written in quotes: `\"[2001:db8::1]:8-9\"`",
        ),
        ("{", "1:1: this is not YAML", "brackets"),
    ] {
        let said = one(text);
        assert!(said.starts_with(at) && said.contains(hint), "{text:?}: {said}");
    }
}

#[test]
fn two_kinds_of_check_are_reported_in_spite_of_a_mistake_in_one() {
    let old = "{ http: { path: /healthz, status: 204, host: www.example.com }, every";
    for (new, wrong) in [
        ("{ tcp: {}, http: { path: healthz }, every", "http.path"),
        ("{ tcp: { port: 0 }, http: {}, every", "tcp.port"),
    ] {
        let said = said(&COMPLETE.replace(old, new));
        assert_eq!(said.len(), 2, "{said:#?}");
        assert!(said[0].contains("services[0].check: both `tcp` and `http`; keep one"), "{said:#?}");
        assert!(said[1].contains(&format!("services[0].check.{wrong}")), "{said:#?}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once_in_its_order() {
    let text = COMPLETE
        .replace("mode: native", "mode: fast")
        .replace("vrid: 51", "vrid: 0")
        .replace("advertise: 500ms", "advertise: 2")
        .replace("protocol: tcp", "protcol: tcp")
        .replace("fall: 4", "fall: often")
        .replace("weight: 2", "weight: -1")
        .replace("name: dns", "name: web")
        .replace("10.0.0.22:53", "nowhere:53");
    let said = said(&text);
    let places: Vec<String> =
        said.iter().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        places,
        [
            "evenkeel.yaml:2:40 interfaces[1].mode",
            "evenkeel.yaml:8:11 vrrp[0].vrid",
            "evenkeel.yaml:10:16 vrrp[0].advertise",
            "evenkeel.yaml:17:5 services[0].protcol",
            "evenkeel.yaml:20:117 services[0].check.fall",
            "evenkeel.yaml:23:44 services[0].backends[1].weight",
            "evenkeel.yaml:24:11 services[1].name",
            "evenkeel.yaml:29:27 services[1].backends[1]",
        ]
    );
}
