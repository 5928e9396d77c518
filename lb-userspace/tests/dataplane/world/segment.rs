//! TCP and UDP packets of either family as descriptions, written to bytes by etherparse: every checksum is summed whole.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader};

use crate::fixture::{NODE_MAC, ROUTER_MAC};
use crate::packet::{ACK, FIN, Mac, RST, SYN, Transport};

#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) to_mac: Mac,
    pub(crate) from_mac: Mac,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) hops: u8,
    /// Type of service, or traffic class.
    pub(crate) class: u8,
    /// Of IPv4.
    pub(crate) dont_fragment: bool,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// From a client's router to the node.
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            to_mac: NODE_MAC,
            from_mac: ROUTER_MAC,
            source,
            destination,
            hops: 61,
            class: 0,
            dont_fragment: true,
            transport,
            payload: b"from the client".to_vec(),
        }
    }

    pub(crate) fn flags(&self, flags: u8) -> Self {
        Self { transport: Transport::Tcp(flags), ..self.clone() }
    }

    pub(crate) fn payload(&self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self.clone() }
    }

    pub(crate) fn from(&self, address: IpAddr) -> Self {
        Self { source: SocketAddr::new(address, self.source.port()), ..self.clone() }
    }

    /// Another port of the client.
    pub(crate) fn port(&self, port: u16) -> Self {
        Self { source: SocketAddr::new(self.source.ip(), port), ..self.clone() }
    }

    pub(crate) fn to(&self, destination: SocketAddr) -> Self {
        Self { destination, ..self.clone() }
    }

    pub(crate) fn to_port(&self, port: u16) -> Self {
        self.to(SocketAddr::new(self.destination.ip(), port))
    }

    /// What a router leaves of it: other MAC addresses, one hop less.
    pub(crate) fn routed(&self, to_mac: Mac, from_mac: Mac) -> Self {
        Self { to_mac, from_mac, hops: self.hops - 1, ..self.clone() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        frame(self.to_mac, self.from_mac, &self.ip())
    }

    pub(crate) fn ip(&self) -> Vec<u8> {
        let (protocol, payload) = match self.transport {
            Transport::Tcp(flags) => (IpNumber::TCP, self.tcp(flags)),
            Transport::Udp => (IpNumber::UDP, self.udp(true)),
            Transport::UdpWithoutChecksum => (IpNumber::UDP, self.udp(false)),
        };
        let outside = Outside { hops: self.hops, class: self.class, dont_fragment: self.dont_fragment };
        ip(self.source.ip(), self.destination.ip(), outside, protocol, &payload)
    }

    fn tcp(&self, flags: u8) -> Vec<u8> {
        let mut tcp = TcpHeader::new(self.source.port(), self.destination.port(), 0x0102_0304, 0x2000);
        tcp.fin = flags & FIN != 0;
        tcp.syn = flags & SYN != 0;
        tcp.rst = flags & RST != 0;
        tcp.ack = flags & ACK != 0;
        tcp.checksum = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                tcp.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                tcp.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload)
            }
            ends => panic!("{ends:?} are of two families"),
        }
        .unwrap();
        [tcp.to_bytes().to_vec(), self.payload.clone()].concat()
    }

    fn udp(&self, with_checksum: bool) -> Vec<u8> {
        let (from, to) = (self.source.port(), self.destination.port());
        let mut udp = UdpHeader::without_ipv4_checksum(from, to, self.payload.len()).unwrap();
        if with_checksum {
            udp.checksum = match (self.source.ip(), self.destination.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    udp.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload)
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    udp.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload)
                }
                ends => panic!("{ends:?} are of two families"),
            }
            .unwrap();
        }
        [udp.to_bytes().to_vec(), self.payload.clone()].concat()
    }
}

/// Of an IP header, what is not its payload or its ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outside {
    pub(crate) hops: u8,
    pub(crate) class: u8,
    pub(crate) dont_fragment: bool,
}

/// An IP packet, of the family of its ends; IPv4 with identification 0.
pub(crate) fn ip(
    source: IpAddr,
    destination: IpAddr,
    outside: Outside,
    protocol: IpNumber,
    payload: &[u8],
) -> Vec<u8> {
    let length = payload.len() as u16;
    let header = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let mut header = Ipv4Header::new(length, outside.hops, protocol, source, destination).unwrap();
            header.dscp = IpDscp::try_new(outside.class >> 2).unwrap();
            header.ecn = IpEcn::try_new(outside.class & 3).unwrap();
            header.dont_fragment = outside.dont_fragment;
            header.header_checksum = header.calc_header_checksum();
            header.to_bytes().to_vec()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6Header {
            traffic_class: outside.class,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: length,
            next_header: protocol,
            hop_limit: outside.hops,
            source: source.octets(),
            destination: destination.octets(),
        }
        .to_bytes()
        .to_vec(),
        ends => panic!("{ends:?} are of two families"),
    };
    [header, payload.to_vec()].concat()
}

/// An IP packet behind an Ethernet header.
pub(crate) fn frame(to: Mac, from: Mac, ip: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if ip[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&to[..], &from[..], &ethertype, ip].concat()
}
