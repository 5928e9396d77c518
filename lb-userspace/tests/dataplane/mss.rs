//! The largest segment that the ends of a connection announce, lowered in SYNs and their answers.

use lb_common::reason::Reason;
use lb_common::service::Method;

use crate::datagram::{Datagram, Family, families, sends};
use crate::fixture::Node;
use crate::packet::{ACK, SYN};

const LARGEST: u16 = 1360;

fn node(family: &Family, method: Method) -> Node {
    family.node_with(method, 0, |service| service.mss = LARGEST)
}

/// The option with this value.
fn option(size: u16) -> Vec<u8> {
    let [high, low] = size.to_be_bytes();
    vec![2, 4, high, low]
}

/// Options that announce a size, beside others.
fn around(size: u16) -> Vec<(&'static str, Vec<u8>)> {
    let size = option(size);
    let timestamps = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let scale = [3, 3, 7];
    vec![
        ("alone", size.clone()),
        ("as Linux sends it", [&size[..], &[4, 2], &timestamps, &[1], &scale].concat()),
        ("behind one byte", [&[1], &size[..], &scale].concat()),
        ("behind three bytes", [&scale[..], &size, &[1]].concat()),
        ("behind an unknown option", [&[0xfd, 6, 1, 2, 3, 4], &size[..], &[1, 1]].concat()),
        ("at the end", [&[1; 36][..], &size].concat()),
        ("at the end behind options", [&timestamps[..], &[4, 2], &[1; 24], &size].concat()),
        ("at an odd place near the end", [&[1; 35][..], &size, &[0]].concat()),
    ]
}

fn syn(family: &Family, options: &[u8]) -> Datagram {
    Datagram { options: options.to_vec(), ..family.request(Some(SYN)).payload(b"") }
}

fn syn_ack(family: &Family, method: Method, options: &[u8]) -> Datagram {
    Datagram { options: options.to_vec(), ..family.reply(method, Some(SYN | ACK)).payload(b"") }
}

fn turned(datagram: &Datagram, options: &[u8]) -> Datagram {
    Datagram { options: options.to_vec(), ..datagram.clone() }
}

/// `sent` in options of a SYN and of its answer come out as `out`.
fn announces(node: &mut Node, family: &Family, method: Method, what: &str, sent: &[u8], out: &[u8]) {
    let (request, answer) = (syn(family, sent), syn_ack(family, method, sent));
    let request_out = turned(&family.delivered(&request, method, 0), out).frame();
    sends(node, what, request.frame(), Reason::Opening, request_out.clone());
    let answer_out = turned(&family.returned(&answer), out).frame();
    sends(node, what, answer.frame(), Reason::Reply, answer_out.clone());
    let ack = family.tcp().payload(b"");
    let ack_out = family.delivered(&ack, method, 0).frame();
    sends(node, what, ack.frame(), Reason::NewFlow, ack_out);
    sends(node, "answer of a flow", answer.frame(), Reason::Reply, answer_out);
    sends(node, "SYN of a flow", request.frame(), Reason::Flow, request_out);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_larger_one_is_lowered_in_both_directions_wherever_it_is() {
    for family in families() {
        let mut node = node(&family, Method::Nat);
        let mut port = 40_000;
        for size in [LARGEST + 1, 1460, 8960, u16::MAX] {
            for ((what, sent), (_, out)) in around(size).into_iter().zip(around(LARGEST)) {
                port += 1;
                announces(&mut node, &family.port(port), Method::Nat, what, &sent, &out);
            }
        }
        let mut node = self::node(&family, Method::FullNat);
        announces(&mut node, &family, Method::FullNat, "fullnat", &option(9000), &option(LARGEST));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_that_fits_is_never_raised() {
    for family in families() {
        let mut node = node(&family, Method::Nat);
        let mut port = 40_000;
        for size in [0, 536, LARGEST - 1, LARGEST] {
            for (what, sent) in around(size) {
                port += 1;
                announces(&mut node, &family.port(port), Method::Nat, what, &sent, &sent);
            }
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn options_that_contradict_themselves_are_left_as_they_are() {
    for family in families() {
        let mut node = node(&family, Method::Nat);
        let mut port = 40_000;
        for (what, sent) in [
            ("none", vec![]),
            ("no such option", vec![4, 2, 1, 1]),
            ("behind the end of options", vec![0, 0, 0, 0, 2, 4, 0xff, 0xff]),
            ("too long", vec![2, 5, 0xff, 0xff, 0xff, 1, 1, 1]),
            ("too short", vec![2, 3, 0xff, 1]),
            ("without a length", vec![1, 1, 1, 2]),
            ("cut", vec![1, 2, 4, 0xff]),
            ("behind one without a length", vec![8, 0, 2, 4, 0xff, 0xff, 1, 1]),
            ("behind one of length 1", vec![8, 1, 2, 4, 0xff, 0xff, 1, 1]),
            ("inside of another", vec![0xfd, 8, 2, 4, 0xff, 0xff, 1, 1]),
            ("behind one beyond the end", vec![0xfd, 255, 2, 4, 0xff, 0xff, 1, 1]),
        ] {
            port += 1;
            announces(&mut node, &family.port(port), Method::Nat, what, &sent, &sent);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn payload_that_looks_like_the_option_is_left_as_it_is() {
    for family in families() {
        let mut node = node(&family, Method::Nat);
        let request = syn(&family, &[]).payload(&[2, 4, 0xff, 0xff, 2, 4, 0xff, 0xff]);
        let out = family.delivered(&request, Method::Nat, 0).frame();
        sends(&mut node, "payload", request.frame(), Reason::Opening, out);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_no_syn_or_not_asked_for_is_left_as_it_is() {
    for family in families() {
        let options = option(u16::MAX);
        let mut nat = node(&family, Method::Nat);
        let request = Datagram { options: options.clone(), ..family.tcp().payload(b"") };
        let out = family.delivered(&request, Method::Nat, 0).frame();
        for reason in [Reason::Opening, Reason::NewFlow, Reason::Flow] {
            sends(&mut nat, "ACK", request.frame(), reason, out.clone());
        }
        for method in [Method::Tunnel, Method::Direct] {
            let mut node = node(&family, method);
            let out = family.delivered(&syn(&family, &options), method, 0).frame();
            sends(&mut node, "no reply comes back", syn(&family, &options).frame(), Reason::Opening, out);
        }
        let mut unasked = family.node(Method::Nat);
        let out = family.delivered(&syn(&family, &options), Method::Nat, 0).frame();
        sends(&mut unasked, "not asked for", syn(&family, &options).frame(), Reason::Opening, out);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn it_is_lowered_behind_extension_headers_too() {
    let [_, family] = families();
    let extensions = vec![(60, vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])];
    let mut node = node(&family, Method::Nat);
    let request = Datagram { extensions: extensions.clone(), ..syn(&family, &option(9000)) };
    let out = turned(&family.delivered(&request, Method::Nat, 0), &option(LARGEST)).frame();
    sends(&mut node, "SYN", request.frame(), Reason::Opening, out);
    let answer = Datagram { extensions, ..syn_ack(&family, Method::Nat, &option(9000)) };
    let out = turned(&family.returned(&answer), &option(LARGEST)).frame();
    sends(&mut node, "SYN-ACK", answer.frame(), Reason::Reply, out);
}
