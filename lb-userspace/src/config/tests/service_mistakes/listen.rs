//! Where a service listens, and what that asks of its backends.

use super::super::one;
use super::refuse;

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
        (
            "2001:db8::1:80",
            "`2001:db8::1:80` has no port, as all of it is an IPv6 address; write the address in brackets and the port \
             behind them, such as `\"[2001:db8::1]:80\"`",
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
