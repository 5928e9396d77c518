//! Backends and their checks.

use super::refuse;

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
