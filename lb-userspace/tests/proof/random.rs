//! Random packets, broken ones among them, while pools turn and backends come and go: the program does what the model says.

use std::fmt::{self, Debug, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use lb_common::reason::Verdict;
use proptest::prelude::*;
use proptest::sample::select;

use crate::frames::{ACK, FIN, Packet, RST, SYN, Transport};
use crate::model::{Model, Tuple};
use crate::ports;
use crate::world::{
    BACKENDS, INSIDE_MAC, KINDS, MIXED, NODE_MAC, PORT, RANGED, RANGES, World, backend_ip, backend_mac,
    backend_number, backend_port, service_address,
};

#[derive(Debug, Clone)]
enum Event {
    Packet(Shape, Damage),
    Noise(Vec<u8>),
    Tables(Option<u32>, Option<u32>),
    Serving(u32, bool),
}

/// A packet between a client and a service, or a backend of it.
#[derive(Clone)]
struct Shape {
    /// Of the flow that the case is about, whatever the next fields say.
    focused: bool,
    v6: bool,
    client: u16,
    service: usize,
    port: u16,
    /// From the backend with this place among the three of the service.
    back: Option<u32>,
    /// The router, or another host that the frame is for.
    from: u8,
    elsewhere: bool,
    tags: Vec<(u16, u16)>,
    ttl: u8,
    class: u8,
    dont_fragment: bool,
    options: usize,
    transport: Transport,
    payload: Vec<u8>,
}

/// On one line.
impl Debug for Shape {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            v6,
            client,
            service,
            port,
            back,
            from,
            elsewhere,
            tags,
            ttl,
            class,
            dont_fragment,
            options,
            ..
        } = self;
        let (kind, bytes) = (KINDS[*service], self.payload.len());
        write!(to, "focused {} ", self.focused)?;
        write!(
            to,
            "v6 {v6} client {client} service {service} {kind:?} port {port} back {back:?} {:?} ",
            self.transport
        )?;
        write!(
            to,
            "ttl {ttl} from {from} elsewhere {elsewhere} tags {tags:x?} class {class} {dont_fragment} "
        )?;
        write!(to, "options {options} payload {bytes}")
    }
}

#[derive(Debug, Clone)]
enum Damage {
    None,
    Overwrite(usize, u8),
    Cut(usize),
    Pad(usize),
}

fn transport() -> impl Strategy<Value = Transport> {
    let flags =
        select(vec![SYN, SYN, ACK, ACK, ACK, ACK, FIN | ACK, RST, SYN | ACK, SYN | FIN, 0, RST | ACK]);
    prop_oneof![
        4 => flags.prop_map(Transport::Tcp),
        2 => Just(Transport::Udp),
        1 => Just(Transport::UdpWithoutChecksum),
    ]
}

/// The flow that a case is mostly about, so that it gets somewhere.
#[derive(Debug, Clone, Copy)]
struct Focus {
    service: usize,
    v6: bool,
    tcp: bool,
}

fn focus() -> impl Strategy<Value = Focus> {
    (0..KINDS.len(), any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(service, v6, tcp)| Focus {
        service,
        v6,
        tcp,
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let tag = || (select(vec![0x8100, 0x88a8]), any::<u16>());
    let tags = prop_oneof![6 => Just(vec![]), 1 => prop::collection::vec(tag(), 1..3)];
    let port = select(vec![PORT, PORT, PORT, 1000, 1500, 1999, 3000, 2000, 999, 0]);
    let back = prop::option::weighted(0.4, 0..BACKENDS);
    let ends = (any::<bool>(), 0_u16..2, 0..KINDS.len(), port, back, 0_u8..2, prop::bool::weighted(0.03));
    let ttl = select(vec![0_u8, 1, 2, 64, 64, 64, 64, 64, 64, 64, 64, 255]);
    let header = (tags, ttl, any::<u8>(), any::<bool>(), 0_usize..4);
    (prop::bool::weighted(0.8), ends, header, transport(), prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(
            |(focused, (v6, client, service, port, back, from, elsewhere), header, transport, payload)| {
                let (tags, ttl, class, dont_fragment, options) = header;
                let port = if service == RANGED || port == 0 { port } else { PORT };
                Shape {
                    focused,
                    v6,
                    client,
                    service,
                    port,
                    back,
                    from,
                    elsewhere,
                    tags,
                    ttl,
                    class,
                    dont_fragment,
                    options,
                    transport,
                    payload,
                }
            },
        )
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        12 => Just(Damage::None),
        4 => (12_usize..90, any::<u8>()).prop_map(|(at, byte)| Damage::Overwrite(at, byte)),
        1 => (14_usize..100).prop_map(Damage::Cut),
        1 => (1_usize..20).prop_map(Damage::Pad),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let table = || prop::option::weighted(0.9, 0_u32..=MIXED);
    let previous = prop::option::weighted(0.4, 0_u32..=MIXED);
    prop_oneof![
        32 => (shape(), damage()).prop_map(|(shape, damage)| Event::Packet(shape, damage)),
        1 => prop::collection::vec(any::<u8>(), 14..120).prop_map(Event::Noise),
        2 => (table(), previous).prop_map(|(current, previous)| Event::Tables(current, previous)),
        2 => (0..BACKENDS, prop::bool::weighted(0.7)).prop_map(|(number, serves)| Event::Serving(number, serves)),
    ]
}

/// The program and the model, which go on from case to case: each has clients of its own, so none knows of another.
struct Pair {
    world: World,
    model: Model,
    case: u32,
    focus: Focus,
}

const CLIENT_PORT: u16 = 40_000;

static PAIR: Mutex<Option<Pair>> = Mutex::new(None);

impl Pair {
    fn new() -> Self {
        Self {
            world: World::new(),
            model: Model::new(),
            case: 0,
            focus: Focus { service: 0, v6: false, tcp: true },
        }
    }

    fn begin(&mut self, focus: Focus) {
        self.case += 1;
        self.focus = focus;
        self.turn(Some(0), None);
        for index in 0..BACKENDS {
            self.serve(index, true);
        }
    }

    fn turn(&mut self, current: Option<u32>, previous: Option<u32>) {
        (self.model.current, self.model.previous) = (current, previous);
        self.world.turn(current, previous);
    }

    fn serve(&mut self, index: u32, serves: bool) {
        self.model.serving[index as usize] = serves;
        self.world.serve(index, serves);
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Tables(current, previous) => self.turn(*current, *previous),
            Event::Serving(index, serves) => self.serve(*index, *serves),
            Event::Noise(frame) => self.frame(frame),
            Event::Packet(shape, damage) => {
                let mut frame = self.packet(shape).bytes();
                match damage {
                    Damage::None => {}
                    Damage::Overwrite(at, byte) => {
                        let at = at % frame.len();
                        frame[at] = *byte;
                    }
                    Damage::Cut(length) => frame.truncate(*length),
                    Damage::Pad(bytes) => frame.extend(vec![0xee; *bytes]),
                }
                self.frame(&frame);
            }
        }
    }

    fn frame(&mut self, frame: &[u8]) {
        if !ports::has_rules(frame) || self.model.hides(frame) {
            return;
        }
        let seen = self.world.send(frame);
        let (reason, out) = self.model.step(frame, &seen);
        assert_eq!(seen.reason, reason, "{frame:02x?}");
        assert_eq!(out.is_some(), reason.verdict() == Verdict::Forward, "{reason:?}");
        if let Some(out) = out {
            ports::hold(frame, &seen.frame, &out);
        }
    }

    /// The shape as the case would have it.
    fn focused(&self, shape: &Shape) -> Shape {
        let Focus { service, v6, tcp } = self.focus;
        let transport = match shape.transport {
            Transport::Tcp(_) if !tcp => Transport::Udp,
            Transport::Udp | Transport::UdpWithoutChecksum if tcp => Transport::Tcp(ACK),
            transport => transport,
        };
        let port = if service == RANGED { RANGES[0].0 } else { PORT };
        let flow = Tuple {
            source: SocketAddr::new(client(self.case, v6), CLIENT_PORT),
            destination: SocketAddr::new(service_address(service, v6), port),
            protocol: if tcp { 6 } else { 17 },
        };
        let back =
            shape.back.map(|index| self.model.backend(&flow).map_or(index, |number| number % BACKENDS));
        Shape { client: 0, service, v6, transport, port, back, ..shape.clone() }
    }

    fn packet(&self, shape: &Shape) -> Packet {
        let focused = self.focused(shape);
        let shape = if shape.focused { &focused } else { shape };
        let client = SocketAddr::new(client(self.case, shape.v6), CLIENT_PORT + shape.client);
        let service = SocketAddr::new(service_address(shape.service, shape.v6), shape.port);
        let (mut source, mut destination, mut from_mac) = (client, service, [2, 0, 0, 0, 7, shape.from]);
        if let Some(index) = shape.back {
            let protocol = if matches!(shape.transport, Transport::Tcp(_)) { 6 } else { 17 };
            destination = self.model.client(&Tuple { source, destination, protocol });
            let number = backend_number(crate::world::Reach::Plain, shape.v6, index);
            source = SocketAddr::new(backend_ip(number), backend_port(number, shape.port));
            from_mac = backend_mac(number);
        }
        let to_mac = match (shape.elsewhere, shape.back) {
            (true, _) => [2, 0, 0, 0, 9, 9],
            (false, None) => NODE_MAC,
            (false, Some(_)) => INSIDE_MAC,
        };
        Packet {
            to_mac,
            from_mac,
            tags: shape.tags.clone(),
            source,
            destination,
            ttl: shape.ttl,
            class: shape.class,
            dont_fragment: shape.dont_fragment,
            options: shape.options,
            transport: shape.transport,
            payload: shape.payload.clone(),
        }
    }
}

fn client(case: u32, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(0x2001_0db8_0007 << 80 | u128::from(case)).into()
    } else {
        Ipv4Addr::from_bits(0x6440_0000 + case).into()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, max_shrink_iters: 2000, ..ProptestConfig::default() })]
    #[test]
    #[ignore = "needs root: cargo xtask test"]
    fn the_program_does_what_the_model_says(focus in focus(), events in prop::collection::vec(event(), 1..60)) {
        let mut pair = PAIR.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = pair.get_or_insert_with(Pair::new);
        pair.begin(focus);
        for event in &events {
            pair.apply(event);
        }
    }
}
