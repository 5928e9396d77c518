//! Addresses, records and headers of a bed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::addr::Addr;
use lb_common::backend::{Backend, Encapsulation, NextHop, RESOLVED, SERVING};
use lb_common::flow::{FlowKey, Ports};
use lb_common::service::Sources;
use lb_common::timed::{HEADERS6, OFFSET, Timed, client};

use crate::case::{Kind, Outside, Path};

pub(crate) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Test runs come in by the loopback interface, so this sends packets back out of it.
pub(crate) const INTERFACE: u32 = 1;
pub(crate) const PORT: u16 = 80;
pub(crate) const BACKEND_PORT: u16 = 8080;
const SERVICE: u32 = 0xcb00_710a;
/// The first of each; the last word of an IPv6 address.
pub(crate) const BACKENDS: u32 = 0x0a00_000a;
pub(crate) const ALLOCATED: u32 = 0x0a01_0000;
pub(crate) const CLIENTS: u32 = 0x6440_0000;
const TUNNEL_SOURCE: u32 = 0x0a00_0001;

/// Addresses that `fullnat` gives to flows: all that a record has.
pub(crate) const SOURCES: u32 = lb_common::service::SOURCES as u32;
const FIRST_PORT: u16 = 1024;

/// An address by its last word.
pub(crate) fn address(ipv6: bool, word: u32) -> Addr {
    Addr::from(ip(ipv6, word))
}

fn ip(ipv6: bool, word: u32) -> IpAddr {
    if ipv6 {
        IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(word)))
    } else {
        IpAddr::from(Ipv4Addr::from_bits(word))
    }
}

pub(crate) fn service(ipv6: bool) -> Addr {
    address(ipv6, SERVICE)
}

/// The last word of an address.
pub(crate) fn word(address: Addr) -> u32 {
    u32::from_be(address.words()[3])
}

pub(crate) fn backend(path: Path, number: u32) -> Backend {
    let outside = path.ipv6 || path.outside == Outside::Ipv6;
    let gue = path.outside == Outside::Gue;
    let (address, tunnel_source) = (address(outside, BACKENDS + number), address(outside, TUNNEL_SOURCE));
    Backend {
        address,
        tunnel_source,
        next_hop: NextHop {
            destination: [2, 0, 0, 0, 0, 3],
            source: [2, 0, 0, 0, 0, 4],
            ifindex: INTERFACE,
            tags: 0,
        },
        port: BACKEND_PORT.to_be(),
        mtu: 1500,
        flags: SERVING | RESOLVED,
        identity: 77 + number,
        weight: 1,
        encapsulation: if gue { Encapsulation::Gue } else { Encapsulation::Ip } as u8,
        gue_port: lb_common::decap::GUE_PORT.to_be(),
        ..Backend::default()
    }
    .with_derived()
}

pub(crate) fn sources(ipv6: bool) -> Sources {
    let addresses = std::array::from_fn(|number| address(ipv6, ALLOCATED + number as u32));
    Sources { addresses, count: SOURCES, first_port: FIRST_PORT, ports: u16::MAX - FIRST_PORT }
}

/// Of packets of client `number` counted from `first`.
pub(crate) fn key(ipv6: bool, first: u32, number: u32) -> FlowKey<Addr> {
    let (word, port) = client(first, number);
    let ports = Ports { source: port.to_be(), destination: PORT.to_be() };
    FlowKey { source: address(ipv6, word), destination: service(ipv6), ports, protocol: 6 }
}

/// Ethernet, IP and TCP, from or to nobody yet. No program here verifies checksums, so none is filled in.
pub(crate) fn headers(ipv6: bool, kind: Kind) -> [u64; HEADERS6 / 8] {
    const ACK: u8 = 16;
    const SYN: u8 = 2;
    let frame_length = OFFSET + size_of::<Timed>();
    let reply = kind == Kind::Reply;
    let (from, to) = if reply { (BACKENDS, CLIENTS) } else { (CLIENTS, SERVICE) };
    let (from_port, to_port) = if reply { (BACKEND_PORT, 0) } else { (0, PORT) };
    let mut bytes = [0; HEADERS6];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &NODE_MAC);
    put(6, &[2, 0, 0, 0, 0, 2]);
    let tcp = if ipv6 {
        put(12, &[0x86, 0xdd, 0x60]);
        put(18, &((frame_length - 14 - 40) as u16).to_be_bytes());
        put(20, &[6, 64]);
        put(22, &octets(ip(true, from)));
        put(38, &octets(ip(true, to)));
        54
    } else {
        put(12, &[8, 0, 0x45, 0]);
        put(16, &((frame_length - 14) as u16).to_be_bytes());
        put(22, &[64, 6]);
        put(26, &octets(ip(false, from)));
        put(30, &octets(ip(false, to)));
        34
    };
    put(tcp, &from_port.to_be_bytes());
    put(tcp + 2, &to_port.to_be_bytes());
    put(tcp + 12, &[0x50, if kind == Kind::Syn { SYN } else { ACK }]);
    zerocopy::transmute!(bytes)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
