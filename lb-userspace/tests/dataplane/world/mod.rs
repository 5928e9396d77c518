//! A node with services and backends of either family, by any forwarding method. What it forwards is held, whole, against
//! a packet that another library builds.

mod addresses;
pub(crate) mod segment;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::{IpNumber, UdpHeader};
use evenkeel::dataplane::clock::Clock;
use evenkeel::dataplane::flow_table::flow::Flow;
use evenkeel::dataplane::flow_table::grace;
use evenkeel::dataplane::flow_table::pool::{Member, Pool};
use evenkeel::dataplane::sweep::{Census, Now, Orders};
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::{Family, Listener};
use lb_common::addr::Addr;
use lb_common::backend::{Backend, Encapsulation, NextHop, RESOLVED, SERVING};
use lb_common::limits::TABLE_ENTRIES;
use lb_common::reason::{Reason, Verdict};
use lb_common::service::{
    CAPPED, MOVED, Members, Method, NO_TABLE, RESET, Rate, STATELESS, Scheduler, Service, Sources,
};
use nix::time::{ClockId, clock_gettime};

use self::addresses::backend_address;
pub(crate) use self::addresses::{client, own_address, service_address};
use self::segment::{Outside, Segment, frame, ip};
use crate::fixture::{INSIDE_MAC, INTERFACE, MTU, NODE_MAC, Node, ROUTER_MAC, TABLE, backend_mac};
use crate::packet::{ACK, Transport};

pub(crate) const METHODS: [Method; 4] = [Method::Nat, Method::FullNat, Method::Tunnel, Method::Direct];
/// Of the packets that flows are made of.
pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Tcp(ACK), Transport::Udp];
/// Number of the service.
pub(crate) const SERVICE: u32 = 3;
pub(crate) const PORT: u16 = 80;
pub(crate) const BACKEND_PORT: u16 = 8080;
pub(crate) const GUE_PORT: u16 = 6080;
/// Of `fullnat`.
pub(crate) const FIRST_PORT: u16 = 20_000;

/// Every method in each family.
pub(crate) fn all() -> impl Iterator<Item = (Family, Method)> {
    Family::ALL.into_iter().flat_map(|family| METHODS.into_iter().map(move |method| (family, method)))
}

/// Methods whose replies come back through the node.
pub(crate) fn translating() -> impl Iterator<Item = (Family, Method)> {
    all().filter(|(_, method)| translates(*method))
}

pub(crate) const fn translates(method: Method) -> bool {
    matches!(method, Method::Nat | Method::FullNat)
}

/// Where a packet went.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) reason: Reason,
    /// None: it was not forwarded.
    pub(crate) backend: Option<u32>,
    /// Whom the backend takes for the sender.
    pub(crate) sender: SocketAddr,
    pub(crate) frame: Vec<u8>,
}

impl Sent {
    /// The backend of a packet that was forwarded.
    pub(crate) fn to(&self) -> u32 {
        self.backend.unwrap_or_else(|| panic!("not forwarded: {:?}", self.reason))
    }
}

pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) family: Family,
    pub(crate) method: Method,
    record: Service,
    backends: Vec<Backend>,
    sources: Sources,
}

impl World {
    /// One service for TCP and UDP, whose flows go to so many backends, one in turn of the entries of a table.
    pub(crate) fn new(family: Family, method: Method, backends: u32) -> Self {
        Self::outside(family, family, method, backends, |_| {})
    }

    /// As [`World::new`], with backends of the family `outer`, changed as `change` says.
    pub(crate) fn outside(
        family: Family,
        outer: Family,
        method: Method,
        backends: u32,
        change: impl Fn(&mut Backend),
    ) -> Self {
        let plane = DataPlane::load_private(object::EVENKEEL, Sizes::of(4096, 4096), 16_384).unwrap();
        let record = Service {
            table: TABLE,
            previous: NO_TABLE,
            method: method as u8,
            half_open: 1_000_000,
            ..Service::default()
        };
        let mut sources = Sources { count: 1, first_port: FIRST_PORT, ports: 20_000, ..Sources::default() };
        sources.addresses[0] = Addr::from(own_address(family, 1));
        let mut world =
            Self { node: Node::of(plane, method), family, method, record, backends: Vec::new(), sources };
        for number in 0..backends {
            world.backends.push(backend_record(outer, number));
            world.backend(number, &change);
        }
        world.table(&(0..backends).collect::<Vec<_>>());
        world.sources(|_| {});
        world.service(|_| {});
        world.listen(service_address(family, 10), PORT, SERVICE);
        world
    }

    /// Changes the record of the service; what follows from it is marked, as user space does.
    pub(crate) fn service(&mut self, change: impl FnOnce(&mut Service)) {
        self.record.flags &= !STATELESS;
        change(&mut self.record);
        if is_always_moved(&self.record) {
            self.record.flags |= MOVED;
        }
        if is_stateless(&self.record) {
            self.record.flags |= STATELESS;
        }
        self.node.plane.services.write(SERVICE, &self.record).unwrap();
    }

    /// The record of the service, for another one.
    pub(crate) fn another(&mut self, number: u32, change: impl FnOnce(&mut Service)) {
        let mut record = self.record;
        change(&mut record);
        self.node.plane.services.write(number, &record).unwrap();
    }

    /// TCP and UDP.
    pub(crate) fn listen(&mut self, address: IpAddr, port: u16, number: u32) {
        for protocol in [6, 17] {
            let key = Listener { address: Addr::from(address), protocol, port };
            self.node.plane.listeners.write(&key, number).unwrap();
        }
    }

    pub(crate) fn unlisten(&mut self, address: IpAddr, port: u16) {
        for protocol in [6, 17] {
            let key = Listener { address: Addr::from(address), protocol, port };
            self.node.plane.listeners.remove(&key).unwrap();
        }
    }

    pub(crate) fn backend(&mut self, number: u32, change: impl FnOnce(&mut Backend)) {
        let record = &mut self.backends[number as usize];
        change(record);
        self.node.backend(number, record);
    }

    /// Each of these numbers in turn.
    pub(crate) fn table(&mut self, numbers: &[u32]) {
        self.numbered_table(TABLE, numbers);
    }

    pub(crate) fn numbered_table(&mut self, table: u32, numbers: &[u32]) {
        let entries: Vec<u32> = numbers.iter().copied().cycle().take(TABLE_ENTRIES as usize).collect();
        self.node.plane.tables.write(table, &entries).unwrap();
    }

    pub(crate) fn sources(&mut self, change: impl FnOnce(&mut Sources)) {
        change(&mut self.sources);
        self.node.plane.pools.write(0, &self.sources).unwrap();
    }

    pub(crate) fn members(&mut self, numbers: &[u16]) {
        let mut members = Members { count: numbers.len() as u16, backends: [0; _] };
        members.backends[..numbers.len()].copy_from_slice(numbers);
        self.node.plane.members.write(SERVICE, &members).unwrap();
    }

    /// A client's packet to the service.
    pub(crate) fn request(&self, transport: Transport) -> Segment {
        let source = SocketAddr::new(client(self.family, 2, 1), 40_000);
        Segment::new(source, SocketAddr::new(service_address(self.family, 10), PORT), transport)
    }

    pub(crate) fn tcp(&self) -> Segment {
        self.request(Transport::Tcp(ACK))
    }

    pub(crate) fn udp(&self) -> Segment {
        self.request(Transport::Udp)
    }

    /// Sends a client's packet, and holds what reaches a backend against what should.
    pub(crate) fn send(&mut self, packet: &Segment) -> Sent {
        let seen = self.node.send_bytes(&packet.bytes());
        let mut sent = Sent { reason: seen.reason, backend: None, sender: packet.source, frame: seen.frame };
        if seen.reason.verdict() == Verdict::Forward {
            assert_eq!(sent.frame[..5], backend_mac(0)[..5], "{packet:?} to no backend");
            let number = u32::from(sent.frame[5]);
            sent.backend = Some(number);
            if self.method == Method::FullNat {
                sent.sender = sender(&sent.frame);
                self.hold_source(sent.sender);
            }
            let out = self.delivered(packet, number, &sent);
            assert_eq!(hex(&sent.frame), hex(&out), "{packet:?}");
        }
        sent
    }

    fn hold_source(&self, sender: SocketAddr) {
        let addresses = &self.sources.addresses[..self.sources.count as usize];
        assert!(addresses.contains(&Addr::from(sender.ip())), "{sender}");
        let offset = sender.port().wrapping_sub(self.sources.first_port);
        assert!(offset < self.sources.ports, "{sender}");
    }

    /// The packet as that backend gets it.
    fn delivered(&self, packet: &Segment, number: u32, sent: &Sent) -> Vec<u8> {
        let packet = packet.routed(backend_mac(number), INSIDE_MAC);
        let destination = self.at_backend(number, packet.destination.port());
        match self.method {
            Method::Direct => packet.bytes(),
            Method::Nat => packet.to(destination).bytes(),
            Method::FullNat => Segment { source: sent.sender, ..packet.to(destination) }.bytes(),
            Method::Tunnel => self.in_tunnel(&packet, number, &sent.frame),
        }
    }

    /// What varies by flow, the source and the UDP source port, is as in `frame`.
    fn in_tunnel(&self, packet: &Segment, number: u32, out: &[u8]) -> Vec<u8> {
        let record = &self.backends[number as usize];
        let inner = packet.ip();
        let mut protocol = if self.family == Family::V4 { IpNumber::IPV4 } else { IpNumber::IPV6 };
        let mut payload = inner;
        if record.encapsulation == Encapsulation::Gue as u8 {
            let port = sender(out).port();
            let udp = UdpHeader::without_ipv4_checksum(port, GUE_PORT, payload.len()).unwrap();
            payload = [udp.to_bytes().to_vec(), payload].concat();
            protocol = IpNumber::UDP;
        }
        let source = sender(out).ip();
        assert!(in_spread(source, record), "{source}");
        let outside = Outside { hops: 64, class: packet.class, dont_fragment: true };
        frame(packet.to_mac, packet.from_mac, &ip(source, record.address.into(), outside, protocol, &payload))
    }

    pub(crate) fn at_backend(&self, number: u32, port: u16) -> SocketAddr {
        let record = &self.backends[number as usize];
        let port = if record.port == 0 { port } else { u16::from_be(record.port) };
        SocketAddr::new(record.address.into(), port)
    }

    /// What the backend that a packet went to sends back.
    pub(crate) fn reply(&self, packet: &Segment, sent: &Sent) -> Segment {
        let number = sent.to();
        Segment {
            to_mac: INSIDE_MAC,
            from_mac: backend_mac(number),
            source: self.at_backend(number, packet.destination.port()),
            destination: sent.sender,
            hops: 64,
            payload: b"from the backend".to_vec(),
            ..packet.clone()
        }
    }

    /// Sends a reply to a packet, which reaches its client as from where that sent it to.
    pub(crate) fn expect_reply(&mut self, packet: &Segment, reply: &Segment) {
        let seen = self.node.send_bytes(&reply.bytes());
        assert_eq!(seen.reason, Reason::Reply, "{reply:?}");
        let out = reply.routed(ROUTER_MAC, NODE_MAC);
        let out = Segment { source: packet.destination, destination: packet.source, ..out };
        assert_eq!(hex(&seen.frame), hex(&out.bytes()), "{reply:?}");
    }

    /// Sends the packets with which the flow enters the table.
    pub(crate) fn establish(&mut self, packet: &Segment) -> Sent {
        let first = self.send(packet);
        assert_eq!(first.reason, Reason::Opening, "{packet:?}");
        let second = self.send(packet);
        assert_eq!((second.reason, second.to()), (Reason::NewFlow, first.to()), "{packet:?}");
        assert_eq!(second.sender, first.sender);
        second
    }

    /// Halves of flows of both families.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        let sweeper = self.node.plane.sweeper.as_ref().unwrap();
        let v4 = sweeper.ipv4.live().map(|(_, half)| Flow::of(&half).unwrap());
        let v6 = sweeper.ipv6.live().map(|(_, half)| Flow::of(&half).unwrap());
        v4.chain(v6).collect()
    }

    /// Halves that a flow has.
    pub(crate) fn halves(&self) -> usize {
        if translates(self.method) { 2 } else { 1 }
    }

    /// What the sweep knows of backends and sources.
    pub(crate) fn pool(&self) -> Pool {
        let members = (0..).zip(&self.backends).map(|(number, record)| {
            let Backend { identity, address, port, .. } = *record;
            (number, Member { identity, address, port })
        });
        Pool::new(members, [(0, self.sources)])
    }

    /// Sweeps once, as if this long had passed.
    pub(crate) fn sweep_after(&mut self, silence: Duration) -> Census {
        let clock = Clock::measure(&mut self.node.plane).unwrap();
        let monotonic = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        let now = Now { jiffies: clock.jiffies(monotonic + silence), ticks: &|time| clock.ticks(time) };
        let orders = Orders { pool: self.pool().into(), ..Orders::default() };
        self.node.plane.sweeper.as_mut().unwrap().sweep(&orders, now, grace::wait)
    }
}

fn backend_record(family: Family, number: u32) -> Backend {
    let next_hop =
        NextHop { destination: backend_mac(number), source: INSIDE_MAC, ifindex: INTERFACE, tags: 0 };
    Backend {
        address: Addr::from(backend_address(family, number)),
        next_hop,
        port: BACKEND_PORT.to_be(),
        mtu: MTU,
        flags: SERVING | RESOLVED,
        identity: 1000 + number,
        service: SERVICE,
        weight: 1,
        tunnel_source: Addr::from(own_address(family, 0)),
        gue_port: GUE_PORT.to_be(),
        encapsulation: Encapsulation::Ip as u8,
        ..Backend::default()
    }
}

/// Something else than the table decides where flows go.
fn is_always_moved(record: &Service) -> bool {
    !Scheduler::is_hash(record.scheduler)
        || record.flags & CAPPED != 0
        || (record.persistence, record.quic_length) != (0, 0)
}

/// The table alone decides what becomes of a SYN.
fn is_stateless(record: &Service) -> bool {
    Scheduler::is_hash(record.scheduler)
        && record.previous == NO_TABLE
        && !translates(Method::from_u8(record.method).unwrap())
        && record.flags & !RESET == 0
        && (record.persistence, record.quic_length) == (0, 0)
        && (record.rate, record.source_rate) == (Rate::default(), Rate::default())
}

/// Source address and port of a packet without IP options; the port of what has none is whatever is there.
pub(crate) fn sender(frame: &[u8]) -> SocketAddr {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if frame[14] >> 4 == 6 {
        let octets: [u8; 16] = frame[22..38].try_into().unwrap();
        SocketAddr::new(octets.into(), port(54))
    } else {
        let octets: [u8; 4] = frame[26..30].try_into().unwrap();
        SocketAddr::new(octets.into(), port(34))
    }
}

fn in_spread(source: IpAddr, record: &Backend) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    bits(source) >> record.spread == bits(record.tunnel_source.into()) >> record.spread
}

/// Readable when two differ: a line for every 16 bytes.
pub(crate) fn hex(bytes: &[u8]) -> Vec<String> {
    bytes.chunks(16).map(|line| format!("{line:02x?}")).collect()
}
