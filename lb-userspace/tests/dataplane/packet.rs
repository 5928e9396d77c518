//! Packets as descriptions, written to bytes by etherparse: every checksum is summed whole, none is updated.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    EtherType, Ethernet2Header, IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv4Options, TcpHeader, UdpHeader,
};

pub(crate) type Mac = [u8; 6];

#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) to_mac: Mac,
    pub(crate) from_mac: Mac,
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) options: Vec<u8>,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// With these flags.
    Tcp(u8),
    Udp,
    /// The sender did not sum (RFC 768).
    UdpWithoutChecksum,
}

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Where the headers of a packet without IP options are.
pub(crate) const IP: usize = 14;
pub(crate) const TRANSPORT: usize = IP + 20;

impl Packet {
    pub(crate) fn ttl(&self, ttl: u8) -> Self {
        Self { ttl, ..self.clone() }
    }

    pub(crate) fn payload(&self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self.clone() }
    }

    pub(crate) fn from(&self, source: SocketAddrV4) -> Self {
        Self { source, ..self.clone() }
    }

    /// Another port of the client.
    pub(crate) fn port(&self, port: u16) -> Self {
        self.from(SocketAddrV4::new(*self.source.ip(), port))
    }

    pub(crate) fn flags(&self, flags: u8) -> Self {
        Self { transport: Transport::Tcp(flags), ..self.clone() }
    }

    /// What a router leaves of it: other MAC addresses, one hop less.
    pub(crate) fn routed(&self, to_mac: Mac, from_mac: Mac) -> Self {
        Self { to_mac, from_mac, ttl: self.ttl - 1, ..self.clone() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.ethernet(), self.ip()].concat()
    }

    /// In a tunnel (RFC 2003) from one address to another.
    pub(crate) fn in_tunnel(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let inner = self.ip();
        let outer = outer_header(inner.len() as u16, self.tos, from, to);
        [self.ethernet(), outer, inner].concat()
    }

    fn ethernet(&self) -> Vec<u8> {
        let (destination, source) = (self.to_mac, self.from_mac);
        Ethernet2Header { destination, source, ether_type: EtherType::IPV4 }.to_bytes().to_vec()
    }

    pub(crate) fn ip(&self) -> Vec<u8> {
        let (source, destination) = (self.source.ip().octets(), self.destination.ip().octets());
        let (protocol, segment) = match self.transport {
            Transport::Tcp(flags) => (IpNumber::TCP, self.tcp(flags)),
            Transport::Udp => (IpNumber::UDP, self.udp(true)),
            Transport::UdpWithoutChecksum => (IpNumber::UDP, self.udp(false)),
        };
        let mut ip = Ipv4Header::new(0, self.ttl, protocol, source, destination).unwrap();
        ip.options = Ipv4Options::try_from(self.options.as_slice()).unwrap();
        ip.set_payload_len(segment.len()).unwrap();
        set_tos(&mut ip, self.tos);
        ip.identification = 0x1234;
        ip.dont_fragment = self.dont_fragment;
        ip.header_checksum = ip.calc_header_checksum();
        [ip.to_bytes().to_vec(), segment].concat()
    }

    fn tcp(&self, flags: u8) -> Vec<u8> {
        let mut tcp = TcpHeader::new(self.source.port(), self.destination.port(), 0x0102_0304, 0x2000);
        tcp.fin = flags & FIN != 0;
        tcp.syn = flags & SYN != 0;
        tcp.rst = flags & RST != 0;
        tcp.ack = flags & ACK != 0;
        let (source, destination) = (self.source.ip().octets(), self.destination.ip().octets());
        tcp.checksum = tcp.calc_checksum_ipv4_raw(source, destination, &self.payload).unwrap();
        [tcp.to_bytes().to_vec(), self.payload.clone()].concat()
    }

    fn udp(&self, with_checksum: bool) -> Vec<u8> {
        let (from, to) = (self.source.port(), self.destination.port());
        let mut udp = UdpHeader::without_ipv4_checksum(from, to, self.payload.len()).unwrap();
        if with_checksum {
            let (source, destination) = (self.source.ip().octets(), self.destination.ip().octets());
            udp.checksum = udp.calc_checksum_ipv4_raw(source, destination, &self.payload).unwrap();
        }
        [udp.to_bytes().to_vec(), self.payload.clone()].concat()
    }
}

/// Of a tunnel, around so many bytes.
pub(crate) fn outer_header(inner: u16, tos: u8, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut outer = Ipv4Header::new(inner, 64, IpNumber::IPV4, from.octets(), to.octets()).unwrap();
    set_tos(&mut outer, tos);
    outer.dont_fragment = true;
    outer.header_checksum = outer.calc_header_checksum();
    outer.to_bytes().to_vec()
}

fn set_tos(ip: &mut Ipv4Header, tos: u8) {
    ip.dscp = IpDscp::try_new(tos >> 2).unwrap();
    ip.ecn = IpEcn::try_new(tos & 3).unwrap();
}

/// Writes the checksum of the IP header at its place again, whole, after a field was changed by hand;
/// over what there is of it, if it claims to be longer than the frame.
pub(crate) fn sum_ip_again(frame: &mut [u8]) {
    let header = usize::from(frame[IP] & 0xf) * 4;
    frame[IP + 10..IP + 12].fill(0);
    let end = (IP + header.max(20)).min(frame.len());
    let words = frame[IP..end].chunks_exact(2);
    let sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}
