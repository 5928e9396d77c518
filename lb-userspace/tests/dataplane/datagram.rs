//! Packets of either family, whole, in fragments, with extension headers or tags: described, and written to bytes by
//! etherparse. Every checksum is summed whole, over the whole of a packet that is sent in fragments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader};
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::Listener;
use lb_common::addr::Addr;
use lb_common::backend::{Backend, NextHop};
use lb_common::reason::Reason;
use lb_common::service::{Method, NO_TABLE, Service, Sources};

use crate::fixture::{
    Action, INSIDE_MAC, INTERFACE, NODE_MAC, Node, ROUTER_MAC, TABLE, TUNNEL_SOURCE, backend_mac,
};
use crate::packet::{ACK, FIN, Mac, RST, SYN};

/// Largest packet the way to a backend takes.
pub(crate) const MTU: u16 = 1500;
/// Port that `fullnat` gives to the one flow there is.
pub(crate) const FULL_NAT_PORT: u16 = 50_000;

/// The addresses of a family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub(crate) client: SocketAddr,
    pub(crate) service: SocketAddr,
    backend: [SocketAddr; 2],
    /// What `fullnat` gives, and tunnels begin at.
    pub(crate) node: IpAddr,
}

pub(crate) fn families() -> [Family; 2] {
    let v4 = |address, port| SocketAddr::new(IpAddr::V4(address), port);
    let v6 = |last, port| {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, last >> 8, 1, 2, 3, 4, last)), port)
    };
    [
        Family {
            client: v4(Ipv4Addr::new(192, 0, 2, 1), 40_000),
            service: v4(Ipv4Addr::new(203, 0, 113, 10), 80),
            backend: [v4(Ipv4Addr::new(10, 0, 0, 10), 8080), v4(Ipv4Addr::new(10, 0, 0, 11), 8080)],
            node: TUNNEL_SOURCE.into(),
        },
        Family {
            client: v6(0x101, 40_000),
            service: v6(0x202, 80),
            backend: [v6(0x303, 8080), v6(0x304, 8080)],
            node: v6(0x405, 0).ip(),
        },
    ]
}

impl Family {
    pub(crate) fn is_v4(&self) -> bool {
        self.client.is_ipv4()
    }

    /// A backend whose next hop has `tags`.
    pub(crate) fn record(&self, number: u32, tags: u32) -> Backend {
        let address = self.backend[number as usize];
        Backend {
            address: Addr::from(address.ip()),
            tunnel_source: Addr::from(self.node),
            next_hop: NextHop {
                destination: backend_mac(number),
                source: INSIDE_MAC,
                ifindex: INTERFACE,
                tags,
            },
            port: address.port().to_be(),
            mtu: MTU,
            identity: 1000 + number,
            ..crate::fixture::backend(number)
        }
    }

    /// A node with a service of this family for TCP and UDP, and backends 0 and 1, of which the first takes all flows.
    pub(crate) fn node(&self, method: Method) -> Node {
        self.node_with(method, 0, |_| {})
    }

    /// The next hop of backends has `tags`.
    pub(crate) fn node_with(&self, method: Method, tags: u32, change: impl Fn(&mut Service)) -> Node {
        let plane = DataPlane::load_private(object::EVENKEEL, Sizes::of(1024, 1024), 4096).unwrap();
        let mut node = Node::of(plane, method);
        for number in 0..2 {
            node.backend(number, &self.record(number, tags));
        }
        node.table(TABLE, 0);
        let mut service = Service {
            table: TABLE,
            previous: NO_TABLE,
            method: method as u8,
            half_open: 100_000,
            ..Service::default()
        };
        change(&mut service);
        node.plane.services.write(3, &service).unwrap();
        let mut pool = Sources { count: 1, first_port: FULL_NAT_PORT, ports: 1, ..Sources::default() };
        pool.addresses[0] = Addr::from(self.node);
        node.plane.pools.write(0, &pool).unwrap();
        let address = Addr::from(self.service.ip());
        node.plane.addresses.write(&address, &1).unwrap();
        for protocol in [6, 17] {
            let key = Listener { address, protocol, port: self.service.port() };
            node.plane.listeners.write(&key, 3).unwrap();
        }
        node
    }

    /// Another port of the client.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.client.set_port(port);
        self
    }

    /// Another backend takes new flows from now on.
    pub(crate) fn turn(&self, node: &mut Node) {
        node.table(TABLE, 1);
    }

    /// From the client.
    pub(crate) fn request(&self, flags: Option<u8>) -> Datagram {
        Datagram {
            to_mac: NODE_MAC,
            from_mac: ROUTER_MAC,
            tags: Vec::new(),
            from: self.client,
            to: self.service,
            hops: 61,
            id: 0x1234,
            extensions: Vec::new(),
            behind: Vec::new(),
            flags,
            options: Vec::new(),
            payload: (0..2000_u32).map(|byte| (byte * 7 + 3) as u8).collect(),
            tunnel: None,
        }
    }

    pub(crate) fn udp(&self) -> Datagram {
        self.request(None)
    }

    pub(crate) fn tcp(&self) -> Datagram {
        self.request(Some(ACK))
    }

    /// As the backend gets it.
    pub(crate) fn delivered(&self, sent: &Datagram, method: Method, number: u32) -> Datagram {
        let backend = self.backend[number as usize];
        let sent = Datagram {
            to_mac: backend_mac(number),
            from_mac: INSIDE_MAC,
            hops: sent.hops - 1,
            tags: Vec::new(),
            ..sent.clone()
        };
        match method {
            Method::Nat => Datagram { to: backend, ..sent },
            Method::FullNat => {
                Datagram { to: backend, from: SocketAddr::new(self.node, FULL_NAT_PORT), ..sent }
            }
            Method::Tunnel => Datagram { tunnel: Some((self.node, backend.ip())), ..sent },
            Method::Direct => sent,
        }
    }

    /// From the backend, to what it believes to be the client.
    pub(crate) fn reply(&self, method: Method, flags: Option<u8>) -> Datagram {
        let client =
            if method == Method::FullNat { SocketAddr::new(self.node, FULL_NAT_PORT) } else { self.client };
        Datagram {
            to_mac: INSIDE_MAC,
            from_mac: backend_mac(0),
            from: self.backend[0],
            to: client,
            id: 0x4321,
            ..self.request(flags)
        }
    }

    /// As the client's router gets it.
    pub(crate) fn returned(&self, reply: &Datagram) -> Datagram {
        Datagram {
            to_mac: ROUTER_MAC,
            from_mac: NODE_MAC,
            from: self.service,
            to: self.client,
            hops: reply.hops - 1,
            tags: Vec::new(),
            ..reply.clone()
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) to_mac: Mac,
    pub(crate) from_mac: Mac,
    /// Type and control word of each tag, the outer one first.
    pub(crate) tags: Vec<(u16, u16)>,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) hops: u8,
    pub(crate) id: u32,
    /// Protocol number and bytes of extension headers, the first byte of which is written over; the second ones are behind the
    /// fragment header.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) behind: Vec<(u8, Vec<u8>)>,
    /// TCP with these flags; else UDP.
    pub(crate) flags: Option<u8>,
    /// Of TCP, a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// From one address to another.
    pub(crate) tunnel: Option<(IpAddr, IpAddr)>,
}

impl Datagram {
    pub(crate) fn frame(&self) -> Vec<u8> {
        self.on_wire(self.part(), None)
    }

    /// A fragment of these bytes of what may be fragmented; more follow unless it is the end.
    pub(crate) fn fragment(&self, bytes: Range<usize>) -> Vec<u8> {
        let part = self.part();
        let end = bytes.end.min(part.len());
        self.on_wire(part[bytes.start..end].to_vec(), Some((bytes.start, end < part.len())))
    }

    /// In three fragments.
    pub(crate) fn fragments(&self) -> [Vec<u8>; 3] {
        [0..1024, 1024..1400, 1400..usize::MAX].map(|bytes| self.fragment(bytes))
    }

    pub(crate) fn payload(&self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self.clone() }
    }

    fn protocol(&self) -> u8 {
        if self.flags.is_some() { 6 } else { 17 }
    }

    /// What fragments are cut from.
    fn part(&self) -> Vec<u8> {
        [chain(&self.behind, self.protocol()), self.transport()].concat()
    }

    fn transport(&self) -> Vec<u8> {
        let (from, to) = (self.from.port(), self.to.port());
        let header = if let Some(flags) = self.flags {
            let mut tcp = TcpHeader::new(from, to, 0x0102_0304, 0x2000);
            tcp.set_options_raw(&self.options).unwrap();
            (tcp.fin, tcp.syn) = (flags & FIN != 0, flags & SYN != 0);
            (tcp.rst, tcp.ack) = (flags & RST != 0, flags & ACK != 0);
            tcp.checksum = match (self.from.ip(), self.to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    tcp.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload).unwrap()
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    tcp.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload).unwrap()
                }
                _ => unreachable!("one family"),
            };
            tcp.to_bytes().to_vec()
        } else {
            let mut udp = UdpHeader::without_ipv4_checksum(from, to, self.payload.len()).unwrap();
            udp.checksum = match (self.from.ip(), self.to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    udp.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload).unwrap()
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    udp.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload).unwrap()
                }
                _ => unreachable!("one family"),
            };
            udp.to_bytes().to_vec()
        };
        [header, self.payload.clone()].concat()
    }

    fn on_wire(&self, part: Vec<u8>, fragment: Option<(usize, bool)>) -> Vec<u8> {
        let mut ip = self.ip(part, fragment);
        let mut v4 = self.from.is_ipv4();
        if let Some((from, to)) = self.tunnel {
            let protocol = if v4 { 4 } else { 41 };
            ip = header(from, to, protocol, 64, &ip, |outer| outer.dont_fragment = true);
            v4 = from.is_ipv4();
        }
        let mut frame = [self.to_mac, self.from_mac].concat();
        for (kind, control) in &self.tags {
            frame.extend([kind.to_be_bytes(), control.to_be_bytes()].concat());
        }
        frame.extend(if v4 { [8, 0] } else { [0x86, 0xdd] });
        [frame, ip].concat()
    }

    fn ip(&self, part: Vec<u8>, fragment: Option<(usize, bool)>) -> Vec<u8> {
        let (from, to) = (self.from.ip(), self.to.ip());
        let first = self.behind.first().map_or_else(|| self.protocol(), |(protocol, _)| *protocol);
        if from.is_ipv4() {
            return header(from, to, first, self.hops, &part, |ip| {
                ip.identification = self.id as u16;
                ip.dont_fragment = false;
                if let Some((offset, more)) = fragment {
                    ip.fragment_offset = IpFragOffset::try_new((offset / 8) as u16).unwrap();
                    ip.more_fragments = more;
                }
            });
        }
        let mut next = first;
        let mut part = part;
        if let Some((offset, more)) = fragment {
            let offset = IpFragOffset::try_new((offset / 8) as u16).unwrap();
            let fragment = Ipv6FragmentHeader::new(IpNumber(first), offset, more, self.id);
            part = [fragment.to_bytes().to_vec(), part].concat();
            next = 44;
        }
        let payload = [chain(&self.extensions, next), part].concat();
        let next = self.extensions.first().map_or(next, |(protocol, _)| *protocol);
        header(from, to, next, self.hops, &payload, |_| {})
    }
}

/// Extension headers, each telling what follows it.
fn chain(headers: &[(u8, Vec<u8>)], last: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (_, header)) in headers.iter().enumerate() {
        let next = headers.get(number + 1).map_or(last, |(protocol, _)| *protocol);
        bytes.push(next);
        bytes.extend(&header[1..]);
    }
    bytes
}

/// An IP header in front of a payload.
fn header(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    hops: u8,
    payload: &[u8],
    change: impl Fn(&mut Ipv4Header),
) -> Vec<u8> {
    let header = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let mut ip = Ipv4Header::new(payload.len() as u16, hops, IpNumber(protocol), from, to).unwrap();
            change(&mut ip);
            ip.header_checksum = ip.calc_header_checksum();
            ip.to_bytes().to_vec()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6Header {
            payload_length: payload.len() as u16,
            next_header: IpNumber(protocol),
            hop_limit: hops,
            source: from.octets(),
            destination: to.octets(),
            ..Ipv6Header::default()
        }
        .to_bytes()
        .to_vec(),
        _ => unreachable!("one family"),
    };
    [header, payload.to_vec()].concat()
}

/// A frame that is sent on.
pub(crate) fn sends(node: &mut Node, what: &str, frame: Vec<u8>, reason: Reason, out: Vec<u8>) {
    node.rows(&[(what, frame, Action::Transmit, reason, Some(out))]);
}

/// One that the kernel gets as it came.
pub(crate) fn passes(node: &mut Node, what: &str, frame: &[u8], reason: Reason) {
    node.rows(&[(what, frame.to_vec(), Action::Pass, reason, Some(frame.to_vec()))]);
}

pub(crate) fn drops(node: &mut Node, what: &str, frame: Vec<u8>, reason: Reason) {
    node.rows(&[(what, frame, Action::Drop, reason, None)]);
}
