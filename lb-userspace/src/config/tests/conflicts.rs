//! Values that are right by themselves, but not together.

use super::{COMPLETE, changed, one, said};

#[test]
fn a_key_twice_is_shown_where_it_is_again() {
    assert_eq!(
        changed("    protocol: udp\n", "    name: dns\n"),
        "26:5: services[1].name: this key is there already, on line 24; remove one of the two"
    );
}

#[test]
fn a_port_twice_in_one_service_is_refused() {
    assert_eq!(
        changed("\"203.0.113.10:443\"", "\"203.0.113.10:80\""),
        "16:31: services[0].listen[1]: 203.0.113.10:80 is a listen address already, on line 16; write it once, for one \
         service"
    );
}

#[test]
fn two_services_on_one_listen_address_are_refused() {
    let said =
        changed("listen: 203.0.113.10:53\n    protocol: udp", "listen: 203.0.113.10:80\n    protocol: tcp");
    assert!(
        said.starts_with(
            "25:13: services[1].listen: 203.0.113.10:80 is a listen address already, on line 16;"
        ),
        "{said}"
    );
}

#[test]
fn a_listen_address_twice_is_found_in_spite_of_a_wrong_protocol() {
    let places = |protocol: &str, listen: &str| -> Vec<String> {
        let text = COMPLETE.replace(
            "listen: 203.0.113.10:53\n    protocol: udp",
            &format!("{listen}\n    protocol: {protocol}"),
        );
        // It would need a port of its own.
        let text = text.replace("    check: tcp\n", "");
        said(&text).iter().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    let protocol = "evenkeel.yaml:26:15 services[1].protocol";
    assert_eq!(
        places("tpc", "listen: 203.0.113.10:443"),
        ["evenkeel.yaml:25:13 services[1].listen", protocol],
        "meant is tcp, as of the other service"
    );
    assert_eq!(
        places("quic", "listen: [203.0.113.10:53, 203.0.113.10:53]"),
        ["evenkeel.yaml:25:31 services[1].listen[1]", protocol],
        "whatever is meant"
    );
    assert_eq!(places("ucp", "listen: 203.0.113.12:53"), [protocol]);
    assert_eq!(
        places("quic", "listen: [203.0.113.10:443, 203.0.113.10:53]"),
        [protocol],
        "it may be another protocol"
    );
}

#[test]
fn a_backend_twice_is_refused() {
    let said = changed("{ address: 10.0.0.12:8080,", "{ address: 10.0.0.11:8080,");
    assert!(
        said.starts_with("23:20: services[0].backends[1].address: 10.0.0.11:8080 is a backend of this"),
        "{said}"
    );
    let said = changed("10.0.0.22:53", "10.0.0.21:53");
    assert!(said.starts_with("29:27: services[1].backends[1]: 10.0.0.21:53 is a backend of this"), "{said}");
}

#[test]
fn a_backend_that_is_a_service_is_refused() {
    assert_eq!(
        changed("      - 10.0.0.11:8080", "      - 203.0.113.10:80"),
        "22:9: services[0].backends[0]: 203.0.113.10:80 is the listen address of a service, on line 16; write the address \
         of the server itself"
    );
}

#[test]
fn a_port_that_is_not_rewritten_is_one_of_the_service() {
    assert_eq!(
        changed("10.0.0.22:53", "10.0.0.22:5353"),
        "29:27: services[1].backends[1]: port 5353 is not a port of this service; `direct` does not rewrite the port, so \
         leave it out or write `53`, or use `forward: nat`"
    );
}

#[test]
fn names_are_used_once_and_fit_the_command_line() {
    let said = changed("name: dns", "name: web");
    assert!(
        said.starts_with("24:11: services[1].name: the service on line 15 is called `web` too; give each"),
        "{said}"
    );
    for name in ["a b", "-a", "\"\"", "a/b", "a\u{e9}"] {
        let said = changed("name: dns", &format!("name: {name}"));
        assert!(said.starts_with("24:11: services[1].name: "), "{said}");
    }
}

#[test]
fn one_vrid_twice_on_an_interface_and_one_address_in_two_instances_are_refused() {
    let second = |interface: &str, vrid: u8, address: &str| {
        let instance = format!(
            "  - {{ name: b, interface: {interface}, vrid: {vrid}, addresses: [{address}] }}\nservices:"
        );
        COMPLETE.replace("\nservices:", &instance)
    };
    let said = one(&second("eth0", 51, "203.0.113.12"));
    assert!(
        said.starts_with(
            "13:39: vrrp[1].vrid: 51 is the VRID of another instance with IPv4 addresses on eth0, on line 8;"
        ),
        "{said}"
    );
    let said = one(&second("eth1", 51, "203.0.113.10/24"));
    assert!(
        said.starts_with(
            "13:55: vrrp[1].addresses[0]: 203.0.113.10 is a virtual address already, on line 12"
        ),
        "{said}"
    );
    assert!(super::read(&second("eth1", 51, "203.0.113.12")).is_ok());
    let both = super::said(&second("eth7", 51, "203.0.113.12").replace("interface: eth0", "interface: eth7"));
    assert_eq!(both.len(), 3, "two interfaces that are not there, and one VRID twice: {both:#?}");
}
