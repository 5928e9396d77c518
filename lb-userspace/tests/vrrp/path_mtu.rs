//! What routers say of tunnel packets that are too big reaches the route, and so the way.

use std::net::{IpAddr, SocketAddr};

use evenkeel::net::path_mtu::{IPV4, IPV6, PathMtu};
use socket2::{Domain, Protocol, Socket, Type};

use super::lab::{Host, eventually};
use super::next_hop::{Family, families, lab, way};

const MTU: u16 = 1400;

/// The first bytes of a packet from `source` to `destination` that carries another IP packet.
fn quoted(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = [0x45, 0, 5, 220, 0, 0, 0x40, 0, 64, IPV4 as u8, 0, 0];
            [&header[..], &source.octets(), &destination.octets(), &[0; 8]].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = [0x60, 0, 0, 0, 5, 180, IPV6 as u8, 64];
            [&header[..], &source.octets(), &destination.octets(), &[0; 8]].concat()
        }
        _ => panic!("two families"),
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum + (sum >> 16)) as u16)
}

/// A router tells the sender of what it quotes that it is too big.
fn complain(router: &Host, sender: IpAddr, destination: IpAddr) {
    let (domain, protocol, kind) = match sender {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, [3, 4]),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, [2, 0]),
    };
    let [high, low] = MTU.to_be_bytes();
    let mut message = [&kind[..], &[0, 0, 0, 0, high, low], &quoted(sender, destination)].concat();
    if sender.is_ipv4() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    router.run(|| {
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
        socket.send_to(&message, &SocketAddr::new(sender, 0).into()).unwrap();
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_router_that_finds_a_tunnel_packet_too_big_lowers_the_mtu_of_the_way() {
    for Family { hosts: [own, gateway, _], network, behind, .. } in families() {
        let lab = lab(2);
        let host = &lab.hosts[0];
        host.ip(&["route", "add", network, "via", &gateway.to_string()]);
        eventually("there is a way", || way(host, behind).is_ok());
        let mut path_mtu = PathMtu::default();
        host.run(|| path_mtu.listen([IPV4, IPV6].into()).unwrap());
        eventually("the way is as narrow as the router says", || {
            complain(&lab.hosts[1], own, behind);
            way(host, behind).is_ok_and(|way| way.mtu == MTU)
        });
    }
}
