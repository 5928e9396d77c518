//! Tunnel packets by etherparse: every checksum is summed whole.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2Header, IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header,
    PacketBuilder, SingleVlanHeader, UdpHeader, VlanId, VlanPcp,
};

pub(super) const LISTED4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 11));
pub(super) const LISTED6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11));
pub(super) const LISTED: [IpAddr; 2] = [LISTED4, LISTED6];
pub(super) const GUE_PORT: u16 = 6080;

/// What is between the outer IP header and the packet inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    Nothing,
    /// UDP alone: GUE variant 1.
    Udp,
    /// UDP and an empty header: GUE variant 0.
    Gue,
}

impl Between {
    pub(super) const ALL: [Self; 3] = [Self::Nothing, Self::Udp, Self::Gue];

    pub(super) fn length(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Udp => 8,
            Self::Gue => 12,
        }
    }
}

/// A packet in a tunnel.
#[derive(Debug, Clone)]
pub(super) struct Tunnel {
    /// Identifiers, the outer first.
    pub(super) tags: Vec<u16>,
    pub(super) destination: IpAddr,
    pub(super) between: Between,
    pub(super) port: u16,
    pub(super) udp_checksum: u16,
    pub(super) inner_is_v4: bool,
    pub(super) inner_destination: Option<IpAddr>,
    pub(super) outer_ecn: u8,
    pub(super) inner_ecn: u8,
}

/// Of every pair of families, and everything that may be between.
pub(super) fn all() -> Vec<Tunnel> {
    let mut all = Vec::new();
    for destination in LISTED {
        for inner_is_v4 in [true, false] {
            for between in Between::ALL {
                all.push(Tunnel { inner_is_v4, between, ..Tunnel::to(destination) });
            }
        }
    }
    all
}

impl Tunnel {
    pub(super) fn to(destination: IpAddr) -> Self {
        Self {
            tags: Vec::new(),
            destination,
            between: Between::Nothing,
            port: GUE_PORT,
            udp_checksum: 0,
            inner_is_v4: true,
            inner_destination: None,
            outer_ecn: 0,
            inner_ecn: 0,
        }
    }

    pub(super) fn frame(&self) -> Vec<u8> {
        let number = if self.inner_is_v4 { IpNumber::IPV4 } else { IpNumber::IPV6 };
        let inner = self.inner();
        match self.between {
            Between::Nothing => self.around(number, &inner),
            Between::Udp => self.around(IpNumber::UDP, &self.udp(&inner)),
            Between::Gue => {
                self.around(IpNumber::UDP, &self.udp(&[&[0, number.0, 0, 0], &inner[..]].concat()))
            }
        }
    }

    /// The frame without the tunnel.
    pub(super) fn out(&self) -> Vec<u8> {
        [self.link(self.inner_is_v4), self.inner()].concat()
    }

    /// An outer header of this protocol around these bytes.
    pub(super) fn around(&self, number: IpNumber, payload: &[u8]) -> Vec<u8> {
        let class = 0x28 << 2 | self.outer_ecn;
        let outer = match self.destination {
            IpAddr::V4(v4) => {
                ipv4(class, number, payload.len(), [10, 0, 0, 1], v4.octets()).to_bytes().to_vec()
            }
            IpAddr::V6(v6) => ipv6(class, number, payload.len(), v6).to_bytes().to_vec(),
        };
        [self.link(self.destination.is_ipv4()), outer, payload.to_vec()].concat()
    }

    pub(super) fn udp(&self, payload: &[u8]) -> Vec<u8> {
        let mut udp = UdpHeader::without_ipv4_checksum(0xc123, self.port, payload.len()).unwrap();
        udp.checksum = self.udp_checksum;
        [&udp.to_bytes()[..], payload].concat()
    }

    pub(super) fn inner(&self) -> Vec<u8> {
        let class = 0x0a << 2 | self.inner_ecn;
        let payload = b"from the client";
        let mut packet = Vec::new();
        let builder = if self.inner_is_v4 {
            let destination = match self.inner_destination {
                Some(IpAddr::V4(v4)) => v4.octets(),
                _ => [203, 0, 113, 10],
            };
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(
                ipv4(class, IpNumber::TCP, 0, [192, 0, 2, 1], destination),
                Default::default(),
            ))
        } else {
            let destination = match self.inner_destination {
                Some(IpAddr::V6(v6)) => v6,
                _ => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10),
            };
            PacketBuilder::ip(etherparse::IpHeaders::Ipv6(
                ipv6(class, IpNumber::TCP, 0, destination),
                Default::default(),
            ))
        };
        builder.tcp(40_000, 80, 1, 0x2000).write(&mut packet, payload).unwrap();
        packet
    }

    /// Ethernet and tags.
    fn link(&self, ip_is_v4: bool) -> Vec<u8> {
        let last = if ip_is_v4 { EtherType::IPV4 } else { EtherType::IPV6 };
        let tag = |place: usize| match place {
            _ if place == self.tags.len() => last,
            0 if self.tags.len() == 2 => EtherType::PROVIDER_BRIDGING,
            _ => EtherType::VLAN_TAGGED_FRAME,
        };
        let (destination, source) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut bytes = Ethernet2Header { destination, source, ether_type: tag(0) }.to_bytes().to_vec();
        for (place, id) in self.tags.iter().enumerate() {
            let header = SingleVlanHeader {
                pcp: VlanPcp::try_new(5).unwrap(),
                drop_eligible_indicator: true,
                vlan_id: VlanId::try_new(*id).unwrap(),
                ether_type: tag(place + 1),
            };
            bytes.extend(header.to_bytes());
        }
        bytes
    }

    /// Where the outer IP header is.
    pub(super) fn outer_at(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Where UDP is, if it is there.
    pub(super) fn udp_at(&self) -> usize {
        self.outer_at() + if self.destination.is_ipv4() { 20 } else { 40 }
    }

    pub(super) fn inner_at(&self) -> usize {
        self.udp_at() + self.between.length()
    }
}

fn ipv4(class: u8, number: IpNumber, payload: usize, source: [u8; 4], destination: [u8; 4]) -> Ipv4Header {
    let mut ip = Ipv4Header::new(payload as u16, 61, number, source, destination).unwrap();
    ip.dscp = IpDscp::try_new(class >> 2).unwrap();
    ip.ecn = IpEcn::try_new(class & 3).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    ip
}

fn ipv6(class: u8, number: IpNumber, payload: usize, destination: Ipv6Addr) -> Ipv6Header {
    Ipv6Header {
        traffic_class: class,
        flow_label: Ipv6FlowLabel::try_new(0xf_ffff).unwrap(),
        payload_length: payload as u16,
        next_header: number,
        hop_limit: 61,
        source: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        destination: destination.octets(),
    }
}

/// Sums the IPv4 header at this place again, after a field was changed by hand; over what there is of it.
pub(super) fn sum_again(frame: &mut [u8], at: usize) {
    frame[at + 10..at + 12].fill(0);
    let length = (usize::from(frame[at] & 0xf) * 4).max(20);
    let end = (at + length).min(frame.len());
    let words = frame[at..end].chunks_exact(2);
    let sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
}
