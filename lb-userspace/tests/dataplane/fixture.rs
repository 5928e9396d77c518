//! A node with services, and rows of what it does with packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use evenkeel::dataplane::flow_table::flow::Flow;
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::Listener;
use lb_common::addr::Addr;
use lb_common::backend::{Backend, NextHop, RESOLVED, SERVING};
use lb_common::limits::TABLE_ENTRIES;
use lb_common::reason::{Reason, Verdict};
use lb_common::service::{MOVED, Method, NO_TABLE, Service};
use lb_common::station::Station;

use crate::packet::{ACK, Mac, Packet, Transport};

pub(crate) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 40_000);
pub(crate) const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 10), 80);
pub(crate) const TUNNEL_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The node's own MAC address, which clients send to.
pub(crate) const NODE_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The router that client packets come from.
pub(crate) const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// The node's MAC address on the side of the backends.
pub(crate) const INSIDE_MAC: Mac = [2, 0, 0, 0, 0, 3];

/// What test runs come in by: the loopback interface.
pub(crate) const INTERFACE: u32 = 1;

pub(crate) const TABLE: u32 = 7;
pub(crate) const PREVIOUS_TABLE: u32 = 8;
pub(crate) const MTU: u16 = 1500;

pub(crate) fn backend_address(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 10 + number as u8), 8080)
}

pub(crate) fn backend_mac(number: u32) -> Mac {
    [2, 0, 0, 0, 1, number as u8]
}

/// A backend on the same interface, serving and with its next hop known.
pub(crate) fn backend(number: u32) -> Backend {
    let address = backend_address(number);
    Backend {
        address: Addr::from(*address.ip()),
        tunnel_source: Addr::from(TUNNEL_SOURCE),
        next_hop: NextHop {
            destination: backend_mac(number),
            source: INSIDE_MAC,
            ifindex: INTERFACE,
            tags: 0,
        },
        port: address.port().to_be(),
        mtu: MTU,
        flags: SERVING | RESOLVED,
        service: 3,
        identity: 1000 + number,
        weight: 1,
        ..Backend::default()
    }
}

/// A client's packet to the service.
pub(crate) fn request(transport: Transport) -> Packet {
    Packet {
        to_mac: NODE_MAC,
        from_mac: ROUTER_MAC,
        source: CLIENT,
        destination: SERVICE,
        ttl: 61,
        tos: 0,
        dont_fragment: true,
        options: Vec::new(),
        transport,
        payload: b"from the client".to_vec(),
    }
}

pub(crate) fn tcp() -> Packet {
    request(Transport::Tcp(ACK))
}

pub(crate) fn udp() -> Packet {
    request(Transport::Udp)
}

/// What the backend sends back for `request`, with `nat`.
pub(crate) fn reply(request: &Packet, number: u32) -> Packet {
    Packet {
        to_mac: INSIDE_MAC,
        from_mac: backend_mac(number),
        source: backend_address(number),
        destination: request.source,
        ttl: 64,
        payload: b"from the backend".to_vec(),
        ..request.clone()
    }
}

/// `request` as the backend gets it.
pub(crate) fn delivered(request: &Packet, method: Method, number: u32) -> Vec<u8> {
    let sent = request.routed(backend_mac(number), INSIDE_MAC);
    match method {
        Method::Nat => Packet { destination: backend_address(number), ..sent }.bytes(),
        Method::Tunnel => sent.in_tunnel(TUNNEL_SOURCE, *backend_address(number).ip()),
        Method::Direct => sent.bytes(),
        Method::FullNat => unimplemented!("`fullnat` has rows of its own"),
    }
}

/// `reply` as the client's router gets it.
pub(crate) fn returned(reply: &Packet) -> Vec<u8> {
    Packet { source: SERVICE, ..reply.routed(ROUTER_MAC, NODE_MAC) }.bytes()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Drop = 1,
    Pass = 2,
    Transmit = 3,
    Redirect = 4,
}

/// What the node did with a frame.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) action: u32,
    pub(crate) reason: Reason,
    pub(crate) frame: Vec<u8>,
}

/// The node's MAC address on an interface.
pub(crate) fn station(ifindex: u32) -> Station {
    Station { ifindex, address: NODE_MAC, zero: 0 }
}

pub(crate) struct Node {
    pub(crate) plane: DataPlane,
    method: Method,
    counted: BTreeMap<u32, u64>,
    /// Numbers of services by address.
    numbers: BTreeMap<SocketAddrV4, u32>,
    /// What packets come in by; 0 is [`INTERFACE`].
    pub(crate) ingress: u32,
}

impl Node {
    /// A node with one service for TCP and UDP and backend 0.
    pub(crate) fn new(method: Method) -> Self {
        Self::sized(method, 1024, 4096)
    }

    pub(crate) fn sized(method: Method, flows: u32, half_open: u32) -> Self {
        Self::with(Sizes::of(flows, 8), method, half_open)
    }

    pub(crate) fn with(sizes: Sizes, method: Method, half_open: u32) -> Self {
        let mut node = Self::of(DataPlane::load_private(object::EVENKEEL, sizes, half_open).unwrap(), method);
        node.backend(0, &backend(0));
        node.table(TABLE, 0);
        node.service(TABLE, NO_TABLE);
        node
    }

    pub(crate) fn backend(&mut self, number: u32, record: &Backend) {
        self.plane.backends.write(number, &record.with_derived()).unwrap();
    }

    /// A node without services.
    pub(crate) fn of(mut plane: DataPlane, method: Method) -> Self {
        let inside = Station { address: INSIDE_MAC, ..station(INTERFACE) };
        plane.stations.set(&BTreeSet::from([station(INTERFACE), inside])).unwrap();
        Self { plane, method, counted: BTreeMap::new(), numbers: BTreeMap::new(), ingress: 0 }
    }

    /// A table with one backend in it.
    pub(crate) fn table(&mut self, table: u32, number: u32) {
        self.plane.tables.write(table, &vec![number; TABLE_ENTRIES as usize]).unwrap();
    }

    /// The tables of the service.
    pub(crate) fn service(&mut self, table: u32, previous: u32) {
        for protocol in [6, 17] {
            self.listen(SERVICE, protocol, self.method, table, previous);
        }
    }

    pub(crate) fn listen(
        &mut self,
        address: SocketAddrV4,
        protocol: u8,
        method: Method,
        table: u32,
        previous: u32,
    ) {
        let next = 3 + self.numbers.len() as u32;
        let number = *self.numbers.entry(address).or_insert(next);
        let record = Service {
            table,
            previous,
            method: method as u8,
            // Some tests turn it to other tables behind the back of its flows.
            flags: MOVED,
            half_open: 100_000,
            ..Service::default()
        };
        self.plane.services.write(number, &record).unwrap();
        let key = Listener { address: Addr::from(*address.ip()), protocol, port: address.port() };
        self.plane.listeners.write(&key, number).unwrap();
    }

    /// Backend 1 takes all new flows from now on; `previous` tables are remembered.
    pub(crate) fn replace_table_by_backend_1(&mut self, previous: bool) {
        self.backend(1, &backend(1));
        self.table(PREVIOUS_TABLE, 0);
        self.table(TABLE, 1);
        self.service(TABLE, if previous { PREVIOUS_TABLE } else { NO_TABLE });
    }

    /// Runs a frame, and holds what is true of every packet: one reason is counted once, the action is the one of that
    /// reason, and a packet that is left to the kernel is left as it came.
    pub(crate) fn send_bytes(&mut self, frame: &[u8]) -> Seen {
        let outcome = self.plane.run("evenkeel", frame, self.ingress).unwrap();
        let now: BTreeMap<u32, u64> = self
            .plane
            .reasons
            .read()
            .unwrap()
            .into_iter()
            .map(|(reason, count)| (reason as u32, count))
            .collect();
        let before = |reason: u32| self.counted.get(&reason).copied().unwrap_or(0);
        let counted: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| now[&(**reason as u32)] != before(**reason as u32))
            .copied()
            .collect();
        let [reason] = counted[..] else { panic!("{counted:?} counted for one packet") };
        assert_eq!(now[&(reason as u32)], before(reason as u32) + 1);
        self.counted = now;
        let fits = match reason.verdict() {
            Verdict::Forward => [Action::Transmit as u32, Action::Redirect as u32].contains(&outcome.action),
            Verdict::Pass => outcome.action == Action::Pass as u32 && outcome.frame == frame,
            Verdict::Answer => outcome.action == Action::Transmit as u32,
            Verdict::Drop => outcome.action == Action::Drop as u32,
        };
        assert!(
            fits,
            "{reason:?} with action {}\nin  {frame:02x?}\nout {:02x?}",
            outcome.action, outcome.frame
        );
        Seen { action: outcome.action, reason, frame: outcome.frame }
    }

    /// After packets that were sent past the fixture.
    pub(crate) fn recount(&mut self) {
        let counts = self.plane.reasons.read().unwrap();
        self.counted = counts.into_iter().map(|(reason, count)| (reason as u32, count)).collect();
    }

    /// Sends the packets that the flow needs to enter the flow table, to that backend.
    pub(crate) fn establish(&mut self, packet: &Packet, number: u32) {
        let seen = self.send(packet);
        assert_eq!(hex(&seen.frame), hex(&delivered(packet, self.method, number)));
        if seen.reason == Reason::Opening {
            self.expect("second packet", packet, Reason::NewFlow, number);
        } else {
            assert_eq!(seen.reason, Reason::NewFlow);
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet) -> Seen {
        self.send_bytes(&packet.bytes())
    }

    /// Runs rows in order, on one state.
    pub(crate) fn rows(&mut self, rows: &[Row<'_>]) {
        for (what, frame, action, reason, out) in rows {
            let seen = self.send_bytes(frame);
            assert_eq!(seen.reason, *reason, "{what}");
            assert_eq!(seen.action, *action as u32, "{what}");
            if let Some(out) = out {
                assert_eq!(hex(&seen.frame), hex(out), "{what}");
            }
        }
    }

    /// A packet to the service, and the reason and the backend expected.
    pub(crate) fn expect(&mut self, what: &str, packet: &Packet, reason: Reason, number: u32) {
        let out = delivered(packet, self.method, number);
        self.rows(&[(what, packet.bytes(), Action::Transmit, reason, Some(out))]);
    }

    /// A packet back from a backend.
    pub(crate) fn expect_reply(&mut self, what: &str, reply: &Packet) {
        self.rows(&[(what, reply.bytes(), Action::Transmit, Reason::Reply, Some(returned(reply)))]);
    }

    /// Halves of flows, of IPv4.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        let table = &self.plane.sweeper.as_ref().unwrap().ipv4;
        table.live().map(|(_, half)| Flow::of(&half).unwrap()).collect()
    }
}

/// What, frame in, action, reason counted, and frame out unless it does not matter.
pub(crate) type Row<'a> = (&'a str, Vec<u8>, Action, Reason, Option<Vec<u8>>);

/// Readable when two differ: a line for every 16 bytes.
fn hex(bytes: &[u8]) -> Vec<String> {
    bytes.chunks(16).map(|line| format!("{line:02x?}")).collect()
}
