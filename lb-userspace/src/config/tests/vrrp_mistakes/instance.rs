//! Versions, intervals, owners and groups.

use super::super::said;
use super::{V4, each, vrrp};

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
