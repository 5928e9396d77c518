//! What an instance may not say, and what is said about it.

use std::fmt::Write;

use super::{one, said};

/// The one mistake of an instance with these keys besides name, interface and VRID, without its position.
fn vrrp(keys: &str) -> String {
    let text = format!("vrrp: [{{ name: v, interface: eth0, vrid: 1, {keys} }}]\n");
    let said = one(&text);
    said.split_once(": vrrp[0]")
        .map_or_else(|| said.clone(), |(_, said)| said.trim_start_matches('.').to_owned())
}

/// Every row of a table at once: what is written after `before`, and what is said.
fn each(before: &str, rows: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (written, expected) in rows {
        let said = vrrp(&format!("{before}{written}"));
        if said != *expected {
            writeln!(wrong, "{written}\n  said     {said}\n  expected {expected}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

const V4: &str = "addresses: [192.0.2.1/24], ";

#[test]
fn of_versions_and_intervals() {
    each(
        V4,
        &[
            ("version: 4", "version: 4 is not a version of VRRP; write a whole number from 2 to 3"),
            (
                "version: 2, advertise: 500ms",
                "advertise: `500ms` is not a whole number of seconds, the unit of version 2; write 1s, or use `version: 3`",
            ),
            (
                "version: 2, advertise: 1.5s",
                "advertise: `1.5s` is not a whole number of seconds, the unit of version 2; write 1s, or use `version: 3`",
            ),
            ("version: 2, advertise: 256s", "advertise: `256s` is out of range; write from 1s to 255s"),
            ("advertise: 41s", "advertise: `41s` is out of range; write from 10ms to 40.95s"),
            ("announce_every: 0s", "announce_every: `0s` is out of range; write from 1s to 1d"),
            (
                "version: 2, checksum: auto",
                "checksum: version 2 has one form of the checksum; remove `checksum`",
            ),
            (
                "checksum: rfc5798",
                "checksum: `rfc5798` is not the word for a form of the checksum here; write `pseudo-header` instead",
            ),
        ],
    );
    assert_eq!(
        vrrp("addresses: [\"2001:db8::1\"], checksum: auto"),
        "checksum: the checksum over IPv6 has one form; remove `checksum`, or add an IPv4 address"
    );
    assert_eq!(
        vrrp("version: 2, addresses: [192.0.2.1, \"2001:db8::1\"]"),
        "addresses[1]: 2001:db8::1 is IPv6, which version 2 does not have; use `version: 3`, or remove the address"
    );
}

#[test]
fn of_an_owner() {
    const OWNER: &str = "addresses: [192.0.2.1/24], priority: 255, ";
    const TAKES: &str = "preempt: a node of priority 255 owns the addresses and takes them at once; remove `preempt`, or \
                         write a priority up to 254";
    each(
        OWNER,
        &[
            ("preempt: false", TAKES),
            ("preempt: { delay: 1s }", TAKES),
            (
                "accept: false",
                "accept: a node of priority 255 owns the addresses and accepts what is sent to them; remove `accept`, or \
                 write a priority up to 254",
            ),
            (
                "track: [{ interface: eth1, weight: -5 }]",
                "track[0].weight: priority 255 never changes; leave `weight` out: then a failure is a fault, or write a \
                 priority up to 254",
            ),
        ],
    );
    each(
        V4,
        &[
            (
                "preempt: 30s",
                "preempt: `30s` does not say whether to preempt; write `true`, `false` or `{ delay: 30s }`",
            ),
            ("preempt: { delay: 1001s }", "preempt.delay: `1001s` is out of range; write from 0ms to 1000s"),
            ("preempt: {}", "preempt: `delay` is missing in preempt; write `delay: 30s`"),
        ],
    );
}

#[test]
fn of_addresses() {
    each(
        "",
        &[
            (
                "addresses: [192.0.2.1, 192.0.2.1/24]",
                "addresses[1]: 192.0.2.1 is a virtual address already, on line 1; remove one of the two",
            ),
            (
                "addresses: [{ address: 192.0.2.1, label: web }]",
                "addresses[0].label: `web` is not a label; write the interface, a `:` and more, together at most 15 \
                 characters, such as `\"eth0:web\"`",
            ),
            (
                "addresses: [{ address: 192.0.2.1, interface: eth1, label: \"eth0:web\" }]",
                "addresses[0].label: `eth0:web` is not a label; write the interface, a `:` and more, together at most 15 \
                 characters, such as `\"eth1:web\"`",
            ),
            (
                "addresses: [{ address: \"2001:db8::1\", label: \"eth0:web\" }]",
                "addresses[0].label: an IPv6 address has no label; remove `label`",
            ),
            (
                "addresses: [{ address: \"2001:db8::1\", scope: link }]",
                "addresses[0].scope: an IPv6 address has the scope of its prefix; remove `scope`",
            ),
            (
                "addresses: [{ address: 192.0.2.1, scope: universe }]",
                "addresses[0].scope: `universe` is not the word for a scope here; write `global` instead",
            ),
            (
                "addresses: [{ interface: eth1 }]",
                "addresses[0]: `address` is missing in a virtual address; write `address: 203.0.113.10/24`",
            ),
        ],
    );
    let many: Vec<String> = (0..256).map(|n| format!("10.0.1.{n}")).collect();
    assert_eq!(
        vrrp(&format!("addresses: [{}]", many.join(", "))),
        "addresses: 256 IPv4 addresses; an advertisement has room for 255, so give the others to another instance of the \
         same `group`"
    );
}

#[test]
fn of_unicast() {
    each(
        V4,
        &[
            ("unicast: {}", "unicast: `peers` is missing in unicast; write `peers: [192.0.2.2]`"),
            ("unicast: { peers: [] }", "unicast.peers: 0 peers; there are 1 to 32, such as `[192.0.2.2]`"),
            (
                "unicast: { peers: [192.0.2.9, 192.0.2.9] }",
                "unicast.peers[1]: 192.0.2.9 is in `unicast` already, on line 1; remove one of the two",
            ),
            (
                "unicast: { peers: [192.0.2.9], sources: 192.0.2.9 }",
                "unicast.peers[0]: 192.0.2.9 is in `unicast` already, on line 1; remove one of the two",
            ),
            (
                "unicast: { peers: [192.0.2.1] }",
                "unicast.peers[0]: 192.0.2.1 is a virtual address, on line 1, and may be on either node; write an address \
                 that stays on one",
            ),
            (
                "unicast: { peers: [192.0.2.9, \"fe80::9\"] }",
                "unicast.peers[1]: fe80::9 is IPv6, and the instance has no such virtual address: nothing is sent there; \
                 remove it, or add an IPv6 address to `addresses`",
            ),
            (
                "unicast: { peers: [192.0.2.9], sources: [192.0.2.7, 192.0.2.8] }",
                "unicast.sources: 2 sources of IPv4; keep the one that the peers know this node by",
            ),
            (
                "unicast: { peers: [192.0.2.9], min_ttl: 0 }",
                "unicast.min_ttl: 0 is not a TTL; write a whole number from 1 to 255",
            ),
            (
                "unicast: { peers: [lb-b] }",
                "unicast.peers[0]: `lb-b` is not an address; write one such as `192.0.2.1`",
            ),
        ],
    );
    assert_eq!(
        vrrp("addresses: [192.0.2.1, \"2001:db8::1\"], unicast: { peers: [192.0.2.9] }"),
        "unicast.peers: the instance has IPv6 addresses, and no peer is IPv6: none would hear of them; add the IPv6 \
         address of each peer"
    );
}

#[test]
fn of_authentication() {
    each(
        V4,
        &[
            (
                "authentication: { required: true }",
                "authentication: the authentication does not say by what; write `keys: /etc/evenkeel/vrrp.keys`, or \
                 `password` with version 2",
            ),
            (
                "authentication: { password: secret }",
                "authentication.password: version 3 has no password; write `keys: /etc/evenkeel/vrrp.keys`, or use \
                 `version: 2`",
            ),
            (
                "authentication: { password: secret, keys: /etc/evenkeel/vrrp.keys }",
                "authentication.password: both `keys` and `password`; keep `keys` with version 3, `password` with version 2",
            ),
            (
                "version: 2, authentication: { password: secret, required: false }",
                "authentication.required: version 2 always requires the password; remove `required`",
            ),
            (
                "version: 2, authentication: { keys: /etc/evenkeel/vrrp.keys }",
                "authentication.keys: version 2 has no authentication by key; use `version: 3`, or write `password`",
            ),
            (
                "version: 2, authentication: { password: ninebytes }",
                "authentication.password: the password has 9 bytes; write 1 to 8, and no zero byte",
            ),
            (
                "version: 2, authentication: { password: 12345 }",
                "authentication.password: the password is not text, as YAML reads it; write it in quotes",
            ),
            (
                "authentication: { keys: vrrp.keys }",
                "authentication.keys: `vrrp.keys` is not the absolute path of a file of keys; write one such as \
                 `/etc/evenkeel/vrrp.keys`",
            ),
            (
                "authentication: { keys: /etc/evenkeel/none }",
                "authentication.keys: /etc/evenkeel/none: there is no such file; write one with a line `ID KEY`, and \
                 `chmod 600` it",
            ),
            (
                "authentication: { keys: /etc/evenkeel/wrong.keys }",
                "authentication.keys: /etc/evenkeel/wrong.keys: line 1 has no key of 32 to 128 hexadecimal digits, an even \
                 number",
            ),
        ],
    );
}

#[test]
fn of_routes_and_rules() {
    each(
        V4,
        &[
            (
                "routes: [{ to: default, interface: eth0 }]",
                "routes[0].to: `default` without `via` is of either family; write `0.0.0.0/0` or `\"::/0\"`",
            ),
            (
                "routes: [{ to: 10.0.0.0/8 }]",
                "routes[0]: the route leads nowhere; add `via`, the next router, or `interface`",
            ),
            (
                "routes: [{ to: \"::/0\", via: \"fe80::1\" }]",
                "routes[0]: fe80::1 is a link-local address, which is another host on every link; add `interface`",
            ),
            (
                "routes: [{ to: 10.0.0.0/8, via: \"2001:db8::1\" }]",
                "routes[0].via: 2001:db8::1 is IPv6, and the route is IPv4; write both of one family",
            ),
            (
                "routes: [{ to: 10.0.0.0/8, via: 192.0.2.9 }, { to: 10.0.0.0/8, via: 192.0.2.8 }]",
                "routes[1]: there is a route to 10.0.0.0/8 in this table already, on line 1; remove one of the two, or give \
                 them a `metric` each",
            ),
            (
                "routes: [{ to: 10.0.0.0/8, via: 192.0.2.9, table: 0 }]",
                "routes[0].table: 0 is not a routing table; write a whole number from 1 to 4294967295, or `main`",
            ),
            (
                "routes: [{ to: 10.0.0.0/8, via: 192.0.2.9, metric: 0 }]",
                "routes[0].metric: 0 is not a metric; write a whole number from 1 to 4294967295",
            ),
            ("rules: [{ table: 100 }]", "rules[0]: the rule is for every packet; add `from` or `to`"),
            ("rules: [{ from: 192.0.2.1 }]", "rules[0]: `table` is missing in a rule; write `table: 100`"),
            (
                "rules: [{ from: 192.0.2.1, to: \"2001:db8::/32\", table: 100 }]",
                "rules[0].to: 2001:db8:: is IPv6, and `from` is IPv4; write both of one family",
            ),
            (
                "rules: [{ from: 192.0.2.1, table: 100, priority: 0 }]",
                "rules[0].priority: 0 is not a priority of a rule; write a whole number from 1 to 32765",
            ),
            (
                "rules: [{ from: 192.0.2.1, table: 100 }, { from: 192.0.2.1/32, table: 100 }]",
                "rules[1]: this rule is there already, on line 1; remove one of the two",
            ),
        ],
    );
}

#[test]
fn of_tracking() {
    each(
        V4,
        &[
            (
                "track: [{ weight: 5 }]",
                "track[0]: nothing is tracked; write one of `interface`, `script`, `file`, `process`, `gateway`, `service`",
            ),
            (
                "track: [{ interface: eth1, file: /run/x }]",
                "track[0]: `interface`, `file` in one; write an item of the list for each",
            ),
            (
                "track: [{ interface: eth1, every: 1s }]",
                "track[0].every: `every` is a key of `script`, not of `interface`; remove it",
            ),
            (
                "track: [{ interface: eth1, weight: 0 }]",
                "track[0].weight: 0 changes nothing; write -253 to 253 without 0, or leave `weight` out: then a failure is \
                 a fault",
            ),
            (
                "track: [{ interface: eth1, weight: 254 }]",
                "track[0].weight: 254 is not a weight; write a whole number from -253 to 253",
            ),
            (
                "track: [{ interface: eth0, weight: -5 }]",
                "track[0].weight: eth0 is the instance's own interface, without which it is in fault anyway; remove `weight`",
            ),
            (
                "track: [{ interface: eth1 }, { interface: eth1, weight: 1 }]",
                "track[1]: this is tracked already, on line 1; remove one of the two",
            ),
            (
                "track: [{ interface: an-interface-so-long }]",
                "track[0].interface: `an-interface-so-long` is not the name of an interface; the kernel holds 15 bytes of \
                 one, without space and `/`: write a name such as `eth1`",
            ),
            (
                "track: [{ script: check }]",
                "track[0].script: `check` is not the absolute path of a program; write one such as `/etc/evenkeel/check`",
            ),
            (
                "track: [{ script: \"/bin/a | b\" }]",
                "track[0].script: `|` is for a shell, and none runs this command; write program and arguments as a list of \
                 texts, such as `[/etc/evenkeel/check, \"an argument\"]`",
            ),
            (
                "track: [{ script: /bin/a, timeout: 3s }]",
                "track[0].timeout: 3s is longer than `every`, 2s; a run must end before the next begins, so write at most \
                 2s, or a longer `every`",
            ),
            (
                "track: [{ script: /bin/a, user: \"a b\" }]",
                "track[0].user: `a b` is not the name of a user; write one such as `nobody`",
            ),
            (
                "track: [{ script: /bin/a, rise: 0 }]",
                "track[0].rise: 0 is not a number of runs in a row; write a whole number from 1 to 100",
            ),
            (
                "track: [{ file: run/x }]",
                "track[0].file: `run/x` is not the absolute path of a file; write one such as `/run/upstream`",
            ),
            (
                "track: [{ gateway: gw }]",
                "track[0].gateway: `gw` is not an address; write one such as `192.0.2.254`",
            ),
            (
                "track: [{ service: web }]",
                "track[0].service: there is no service `web`; this file has none, so add it to `services`",
            ),
        ],
    );
    let service = |track: &str| {
        one(&format!(
            "interfaces: [eth0]\nservices: [{{ name: web, listen: 192.0.2.1:80, forward: nat, backends: [10.0.0.1:80] }}]\n\
             vrrp: [{{ name: v, interface: eth0, vrid: 1, addresses: [192.0.2.1], track: [{track}] }}]\n"
        ))
    };
    assert!(service("{ service: wbe }").ends_with("there is no service `wbe`; did you mean `web`?"));
    assert!(service("{ service: web, min_backends: 2 }").ends_with(
        "track[0].min_backends: 2 is more than `web` has backends, and would always fail; write at most 1"
    ));
}

#[test]
fn of_a_group_whose_members_differ() {
    let group = |first: &str, second: &str| {
        said(&format!(
            "vrrp:\n- {{ name: a, interface: eth0, vrid: 1, addresses: [192.0.2.1], group: g, {first} }}\n\
             - {{ name: b, interface: eth1, vrid: 2, addresses: [192.0.2.2], group: g, {second} }}\n"
        ))
    };
    assert_eq!(
        group("priority: 150, preempt: false", "preempt: { delay: 30s }"),
        [
            "evenkeel.yaml:3:71: vrrp[1].group: priority 100, and 150 in the instance of group `g` on line 2; members of a \
             group have one state, so write the same `priority` in each",
            "evenkeel.yaml:3:83: vrrp[1].preempt: preempt `{ delay: 30s }`, and `false` in the instance of group `g` on \
             line 2; members of a group have one state, so write the same `preempt` in each",
        ]
    );
    let wrong = group("priority: 0", "priority: 7");
    assert_eq!(wrong.len(), 1, "a priority that is wrong is compared with nothing: {wrong:#?}");
}

#[test]
fn of_hooks() {
    for (hooks, expected) in [
        (
            "{ fifo: transitions }",
            "`transitions` is not the absolute path of a FIFO; write one such as `/run/evenkeel-hooks/transitions`",
        ),
        (
            "{ scripts: [hook] }",
            "`hook` is not the absolute path of a program; write one such as `/etc/evenkeel/transition`",
        ),
        ("{ scripts: [{ user: a }] }", "`run` is missing in a hook; write `run: /etc/evenkeel/transition`"),
        ("{ scripts: [{ run: /bin/a, timeout: 0s }] }", "`0s` is out of range; write from 100ms to 1h"),
        (
            "{ scripts: [{ run: [] }] }",
            "a command without a program; write one such as `/etc/evenkeel/transition`",
        ),
        (
            "{ scripts: [/bin/a, /bin/a] }",
            "this command is in the list already, on line 1; remove one of the two",
        ),
    ] {
        let said = one(&format!("hooks: {hooks}\n"));
        assert!(said.ends_with(expected), "{said}");
    }
}
