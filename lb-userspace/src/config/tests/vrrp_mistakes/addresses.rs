//! What moves, by which routes, and between whom.

use super::{V4, each, vrrp};

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
