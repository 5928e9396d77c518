//! Packets of both families as descriptions, written to bytes by etherparse, and a node with one service in either family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header,
    TcpHeader, UdpHeader,
};
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::Listener;
use lb_common::addr::Addr;
use lb_common::backend::{Backend, Encapsulation};
use lb_common::limits::TABLE_ENTRIES;
use lb_common::service::{Method, NO_TABLE, Service, Sources};

use crate::fixture::{INSIDE_MAC, MTU, NODE_MAC, Node, ROUTER_MAC, TABLE, backend, backend_mac};
use crate::packet::{ACK, FIN, Mac, RST, SYN};

pub(crate) const METHODS: [Method; 4] = [Method::Nat, Method::FullNat, Method::Tunnel, Method::Direct];
/// Number of the service.
pub(crate) const NUMBER: u32 = 3;

/// An address of either family with this number in its last byte.
pub(crate) fn address(v6: bool, number: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, number.into()).into()
    } else {
        Ipv4Addr::new(192, 0, 2, number).into()
    }
}

const CLIENT: u8 = 1;
const SERVICE: u8 = 10;
const BACKEND: u8 = 20;
const POOL: u8 = 30;
const TUNNEL: u8 = 40;
pub(crate) const ROUTER: u8 = 99;

pub(crate) fn client(v6: bool) -> SocketAddr {
    SocketAddr::new(address(v6, CLIENT), 40_000)
}

pub(crate) fn service(v6: bool) -> SocketAddr {
    SocketAddr::new(address(v6, SERVICE), 80)
}

pub(crate) fn server(v6: bool) -> SocketAddr {
    SocketAddr::new(address(v6, BACKEND), 8080)
}

fn octets4(address: IpAddr) -> [u8; 4] {
    let IpAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
    address.octets()
}

fn octets6(address: IpAddr) -> [u8; 16] {
    let IpAddr::V6(address) = address else { panic!("{address} is not of IPv6") };
    address.octets()
}

/// An IP packet; IPv4 with "don't fragment" and identification 0.
pub(crate) fn ip(
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    protocol: IpNumber,
    payload: &[u8],
) -> Vec<u8> {
    let length = payload.len() as u16;
    let header = if source.is_ipv6() {
        let header = Ipv6Header {
            traffic_class: 0,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: length,
            next_header: protocol,
            hop_limit: hops,
            source: octets6(source),
            destination: octets6(destination),
        };
        header.to_bytes().to_vec()
    } else {
        let mut header =
            Ipv4Header::new(length, hops, protocol, octets4(source), octets4(destination)).unwrap();
        header.dont_fragment = true;
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    };
    [header, payload.to_vec()].concat()
}

/// An ICMP packet.
pub(crate) fn icmp(source: IpAddr, destination: IpAddr, hops: u8, head: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let [type_u8, code_u8, rest @ ..] = head;
    let (protocol, header) = if source.is_ipv6() {
        let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8: rest };
        let header =
            Icmpv6Header::with_checksum(kind, octets6(source), octets6(destination), payload).unwrap();
        (IpNumber::IPV6_ICMP, header.to_bytes().to_vec())
    } else {
        let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8: rest };
        (IpNumber::ICMP, Icmpv4Header::with_checksum(kind, payload).to_bytes().to_vec())
    };
    ip(source, destination, hops, protocol, &[header, payload.to_vec()].concat())
}

pub(crate) fn frame(to: Mac, from: Mac, ip: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if ip[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&to[..], &from[..], &ethertype, ip].concat()
}

/// The frame with tags behind its addresses.
pub(crate) fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

/// A TCP or UDP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) hops: u8,
    /// Of TCP; else it is UDP.
    pub(crate) flags: Option<u8>,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) window: u16,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    pub(crate) fn ip(&self) -> Vec<u8> {
        let protocol = if self.flags.is_some() { IpNumber::TCP } else { IpNumber::UDP };
        let transport = match self.flags {
            Some(flags) => self.tcp(flags),
            None => self.udp(),
        };
        ip(self.source.ip(), self.destination.ip(), self.hops, protocol, &transport)
    }

    fn tcp(&self, flags: u8) -> Vec<u8> {
        let (from, to) = (self.source.port(), self.destination.port());
        let mut tcp = TcpHeader::new(from, to, self.sequence, self.window);
        tcp.acknowledgment_number = self.acknowledgment;
        tcp.fin = flags & FIN != 0;
        tcp.syn = flags & SYN != 0;
        tcp.rst = flags & RST != 0;
        tcp.ack = flags & ACK != 0;
        let (source, destination) = (self.source.ip(), self.destination.ip());
        tcp.checksum = if source.is_ipv6() {
            tcp.calc_checksum_ipv6_raw(octets6(source), octets6(destination), &self.payload)
        } else {
            tcp.calc_checksum_ipv4_raw(octets4(source), octets4(destination), &self.payload)
        }
        .unwrap();
        [tcp.to_bytes().to_vec(), self.payload.clone()].concat()
    }

    fn udp(&self) -> Vec<u8> {
        let (from, to) = (self.source.port(), self.destination.port());
        let mut udp = UdpHeader::without_ipv4_checksum(from, to, self.payload.len()).unwrap();
        let (source, destination) = (self.source.ip(), self.destination.ip());
        udp.checksum = if source.is_ipv6() {
            udp.calc_checksum_ipv6_raw(octets6(source), octets6(destination), &self.payload)
        } else {
            udp.calc_checksum_ipv4_raw(octets4(source), octets4(destination), &self.payload)
        }
        .unwrap();
        [udp.to_bytes().to_vec(), self.payload.clone()].concat()
    }
}

/// A client's packet to the service.
pub(crate) fn request(v6: bool, tcp: bool) -> Segment {
    Segment {
        source: client(v6),
        destination: service(v6),
        hops: 61,
        flags: tcp.then_some(ACK),
        sequence: 0x0102_0304,
        acknowledgment: 0xa0b0_c0d0,
        window: 0x2000,
        payload: b"from the client".to_vec(),
    }
}

/// A client's frame.
pub(crate) fn sent(segment: &Segment) -> Vec<u8> {
    frame(NODE_MAC, ROUTER_MAC, &segment.ip())
}

/// The frame that an answer of the program to a client is.
pub(crate) fn answered(ip: &[u8]) -> Vec<u8> {
    frame(ROUTER_MAC, NODE_MAC, ip)
}

/// The backend of the service.
pub(crate) fn backend_record(v6: bool) -> Backend {
    let mut record = backend(0);
    record.address = Addr::from(address(v6, BACKEND));
    record.tunnel_source = Addr::from(address(v6, TUNNEL));
    record.mtu = MTU;
    record.encapsulation = Encapsulation::Ip as u8;
    record
}

/// A node with a service for TCP and UDP of one family, and a backend.
pub(crate) fn node(v6: bool, method: Method, change: impl Fn(&mut Service)) -> Node {
    let plane = DataPlane::load_private(object::EVENKEEL, Sizes::of(1024, 1024), 4096).unwrap();
    let mut node = Node::of(plane, method);
    node.backend(0, &backend_record(v6));
    node.plane.tables.write(TABLE, &vec![0; TABLE_ENTRIES as usize]).unwrap();
    let mut pool = Sources { count: 1, first_port: 20_000, ports: 1000, ..Sources::default() };
    pool.addresses[0] = Addr::from(address(v6, POOL));
    node.plane.pools.write(0, &pool).unwrap();
    let mut record = Service {
        table: TABLE,
        previous: NO_TABLE,
        method: method as u8,
        half_open: 100_000,
        ..Service::default()
    };
    change(&mut record);
    node.plane.services.write(NUMBER, &record).unwrap();
    for protocol in [6, 17] {
        let key = Listener { address: Addr::from(address(v6, SERVICE)), protocol, port: service(v6).port() };
        node.plane.listeners.write(&key, NUMBER).unwrap();
    }
    node
}

/// Sends the client's packet so often, and says whom the backend takes for its sender.
pub(crate) fn open(node: &mut Node, method: Method, request: &Segment, times: u32) -> SocketAddr {
    let mut frame = Vec::new();
    for _ in 0..times {
        frame = node.send_bytes(&sent(request)).frame;
    }
    if method != Method::FullNat {
        return request.source;
    }
    let v6 = request.source.is_ipv6();
    let port = if v6 { 14 + 40 } else { 14 + 20 };
    SocketAddr::new(address(v6, POOL), u16::from_be_bytes([frame[port], frame[port + 1]]))
}

/// What the backend gets: the packet itself, or in its tunnel.
pub(crate) fn delivered(v6: bool, method: Method, packet: &[u8]) -> Vec<u8> {
    if method != Method::Tunnel {
        return frame(backend_mac(0), INSIDE_MAC, packet);
    }
    let inside = if v6 { IpNumber::IPV6 } else { IpNumber::IPV4 };
    let outer = ip(address(v6, TUNNEL), address(v6, BACKEND), 64, inside, packet);
    frame(backend_mac(0), INSIDE_MAC, &outer)
}
