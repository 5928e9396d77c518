//! What is tracked, and who is told.

use super::super::one;
use super::{V4, each};

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
