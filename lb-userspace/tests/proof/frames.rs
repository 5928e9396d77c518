//! Packets of both families as descriptions, written to bytes by etherparse.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header,
    TcpHeader, UdpHeader,
};

pub(crate) type Mac = [u8; 6];

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Bytes before the IP header of a frame without tags.
pub(crate) const IP: usize = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// With these flags.
    Tcp(u8),
    Udp,
    /// The sender did not sum (RFC 768).
    UdpWithoutChecksum,
}

#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) to_mac: Mac,
    pub(crate) from_mac: Mac,
    /// Type and control word of each tag, the outer one first.
    pub(crate) tags: Vec<(u16, u16)>,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) class: u8,
    pub(crate) dont_fragment: bool,
    /// Words of IPv4 options.
    pub(crate) options: usize,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut frame = self.ethernet(if self.source.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 });
        frame.extend(self.ip());
        frame
    }

    pub(crate) fn ethernet(&self, ether_type: EtherType) -> Vec<u8> {
        let header =
            Ethernet2Header { destination: self.to_mac, source: self.from_mac, ether_type }.to_bytes();
        let mut frame = header[..12].to_vec();
        for (kind, control) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(&header[12..]);
        frame
    }

    /// The IP packet.
    pub(crate) fn ip(&self) -> Vec<u8> {
        let (protocol, segment) = self.segment();
        self.ip_around(protocol, &segment)
    }

    /// An IP header with this behind it.
    pub(crate) fn ip_around(&self, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut ip =
                    Ipv4Header::new(0, self.ttl, protocol, source.octets(), destination.octets()).unwrap();
                ip.options = Ipv4Options::try_from(&vec![1; self.options * 4][..]).unwrap();
                ip.set_payload_len(payload.len()).unwrap();
                ip.dscp = (self.class >> 2).try_into().unwrap();
                ip.ecn = (self.class & 3).try_into().unwrap();
                ip.identification = 0x1234;
                ip.fragment_offset = IpFragOffset::ZERO;
                ip.dont_fragment = self.dont_fragment;
                ip.header_checksum = ip.calc_header_checksum();
                [ip.to_bytes().to_vec(), payload.to_vec()].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let ip = Ipv6Header {
                    traffic_class: self.class,
                    flow_label: Ipv6FlowLabel::try_from(0x54321).unwrap(),
                    payload_length: payload.len() as u16,
                    next_header: protocol,
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                [ip.to_bytes().to_vec(), payload.to_vec()].concat()
            }
            _ => unreachable!("both ends are of one family"),
        }
    }

    pub(crate) fn segment(&self) -> (IpNumber, Vec<u8>) {
        let (from, to) = (self.source.port(), self.destination.port());
        match self.transport {
            Transport::Tcp(flags) => {
                let mut tcp = TcpHeader::new(from, to, 0x0102_0304, 0x2000);
                (tcp.fin, tcp.syn) = (flags & FIN != 0, flags & SYN != 0);
                (tcp.rst, tcp.ack) = (flags & RST != 0, flags & ACK != 0);
                tcp.checksum = match (self.source.ip(), self.destination.ip()) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => {
                        tcp.calc_checksum_ipv4_raw(a.octets(), b.octets(), &self.payload)
                    }
                    (IpAddr::V6(a), IpAddr::V6(b)) => {
                        tcp.calc_checksum_ipv6_raw(a.octets(), b.octets(), &self.payload)
                    }
                    _ => unreachable!("both ends are of one family"),
                }
                .unwrap();
                (IpNumber::TCP, [tcp.to_bytes().to_vec(), self.payload.clone()].concat())
            }
            Transport::Udp | Transport::UdpWithoutChecksum => {
                let mut udp = UdpHeader::without_ipv4_checksum(from, to, self.payload.len()).unwrap();
                if self.transport == Transport::Udp {
                    udp.checksum = match (self.source.ip(), self.destination.ip()) {
                        (IpAddr::V4(a), IpAddr::V4(b)) => {
                            udp.calc_checksum_ipv4_raw(a.octets(), b.octets(), &self.payload)
                        }
                        (IpAddr::V6(a), IpAddr::V6(b)) => {
                            udp.calc_checksum_ipv6_raw(a.octets(), b.octets(), &self.payload)
                        }
                        _ => unreachable!("both ends are of one family"),
                    }
                    .unwrap();
                }
                (IpNumber::UDP, [udp.to_bytes().to_vec(), self.payload.clone()].concat())
            }
        }
    }
}
