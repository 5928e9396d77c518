//! Forwarding methods and what depends on them.

use super::{SMALL, UDP, refuse};

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
