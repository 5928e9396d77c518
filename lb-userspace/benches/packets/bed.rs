//! A private copy of the program with one service, and runs of many rounds through it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use evenkeel::dataplane::{DataPlane, object};
use lb_common::addr::Addr;
use lb_common::backend::{Backend, NextHop, RESOLVED, SERVING};
use lb_common::flow::{FlowKey, FlowValue, Half};
use lb_common::limits::{FLOWS, HALF_OPEN, TABLE_ENTRIES};
use lb_common::reason::Reason;
use lb_common::service::{Method, NO_TABLE, ServiceKey, ServiceValue};
use lb_common::station::Station;
use lb_common::timed::{HEADERS, OFFSET, Timed, client};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// What is sent, over and over, each time by another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A packet of an established flow.
    Hit,
    /// Back from the backend.
    Reply,
    /// The first packet after the SYN, of a flow that is not known: it enters the table of half-open flows.
    First,
    /// The second, which enters the flow into the flow table.
    New,
    Syn,
}

pub(crate) struct Bed {
    plane: DataPlane,
    pub(crate) method: Method,
    /// Established flows.
    flows: u32,
    /// Number of the client that a run begins with.
    first: u32,
}

const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 10), 80);
const BACKEND: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 11), 8080);
/// Clients with established flows, and clients without.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
const STRANGERS: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 0);
/// Test runs come in by the loopback interface, so this sends packets back out of it.
const INTERFACE: u32 = 1;
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const XDP_TX: u32 = 3;
/// Odd, so that it visits every client, and large, so that it visits them in another order than they came in.
const STRIDE: u64 = 0x9e37_79b1;
/// New flows in one run: few beside a large table, and many enough that the cold start of a run does not count.
pub(crate) const BATCH: u32 = 1 << 14;

impl Bed {
    /// With that many flows established, a power of two.
    pub(crate) fn new(method: Method, flows: u32) -> Result<Self> {
        let halves = if method == Method::Nat { 2 } else { 1 };
        let mut plane = DataPlane::load_private(object::BENCH, halves * FLOWS, HALF_OPEN)?;
        let station = Station { ifindex: INTERFACE, address: NODE_MAC, zero: 0 };
        plane.stations.set(&BTreeSet::from([station]))?;
        plane.backends.write(0, &backend())?;
        plane.tables.write(0, &vec![0; TABLE_ENTRIES as usize])?;
        let (address, port) = SERVICE;
        let key = ServiceKey { address: Addr::from(address), port: port.to_be(), protocol: 6, zero: 0 };
        let value = ServiceValue { service: 0, table: 0, previous: NO_TABLE, method: method as u32 };
        plane.services.write(&key, &value)?;
        let mut bed = Self { plane, method, flows, first: 0 };
        bed.establish()?;
        Ok(bed)
    }

    /// A batch at a time: the table of half-open flows does not hold them all.
    fn establish(&mut self) -> Result<()> {
        for first in (0..self.flows).step_by(BATCH as usize) {
            self.first = first;
            for kind in [Kind::First, Kind::New] {
                self.run("evenkeel", kind, self.flows.min(BATCH), 1)?;
            }
        }
        self.first = 0;
        Ok(())
    }

    /// Nanoseconds a packet, over what the empty program takes just before.
    pub(crate) fn measure(&mut self, kind: Kind, rounds: u32) -> Result<f64> {
        if kind == Kind::First || kind == Kind::New {
            return self.measure_new(kind);
        }
        let empty = self.run("empty", kind, rounds, STRIDE)?;
        Ok(self.run("evenkeel", kind, rounds, STRIDE)? - empty)
    }

    fn measure_new(&mut self, kind: Kind) -> Result<f64> {
        let empty = self.run("empty", kind, BATCH, 1)?;
        self.forget(0..BATCH)?;
        let first = self.run("evenkeel", Kind::First, BATCH, 1)?;
        let second = self.run("evenkeel", Kind::New, BATCH, 1)?;
        self.forget(self.flows..BATCH)?;
        Ok(if kind == Kind::First { first } else { second } - empty)
    }

    /// Nanoseconds a packet, by the kernel's own clock around all rounds.
    fn run(&mut self, program: &'static str, kind: Kind, rounds: u32, stride: u64) -> Result<f64> {
        let timed = self.timed(kind, stride, rounds);
        let mut frame = vec![0; OFFSET + size_of::<Timed>()];
        frame[OFFSET..].copy_from_slice(timed.as_bytes());
        let mut out = frame.clone();
        let before = self.counted(kind)?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut out);
        options.repeat = rounds;
        let result = self.plane.program_named(program)?.test_run(options)?;
        let after = Timed::read_from_bytes(&out[OFFSET..])
            .map_err(|_| anyhow::anyhow!("{program} left a frame of another length"))?;
        ensure!(
            after.expected == u64::from(rounds),
            "{program}, {kind:?} of {:?}: {} of {rounds} rounds ended as expected",
            self.method,
            after.expected
        );
        let counted = self.counted(kind)? - before;
        ensure!(
            program == "empty" || counted == u64::from(rounds),
            "{kind:?} of {:?}: {counted} of {rounds} packets were counted as what they are",
            self.method
        );
        Ok(result.duration.as_nanos() as f64)
    }

    fn timed(&self, kind: Kind, stride: u64, rounds: u32) -> Timed {
        let (first, _) = client(if kind == Kind::Syn { STRANGERS } else { CLIENTS }.to_bits(), self.first);
        let clients = if matches!(kind, Kind::First | Kind::New) { rounds } else { self.flows };
        Timed {
            headers: headers(kind),
            stride,
            mask: u64::from(clients - 1),
            client: first,
            reply: u32::from(kind == Kind::Reply),
            moves: u32::from(self.method == Method::Tunnel),
            action: XDP_TX,
            ..Timed::default()
        }
    }

    fn counted(&self, kind: Kind) -> Result<u64> {
        let wanted = match kind {
            Kind::Hit => Reason::Flow,
            Kind::Reply => Reason::Reply,
            Kind::New => Reason::NewFlow,
            Kind::First | Kind::Syn => Reason::Opening,
        };
        let counts = self.plane.reasons.read()?;
        Ok(counts.into_iter().find(|(reason, _)| *reason == wanted).map_or(0, |(_, count)| count))
    }

    /// Takes the flows of these clients out of the table.
    fn forget(&mut self, clients: std::ops::Range<u32>) -> Result<()> {
        let Some(flows) = self.plane.flows.as_mut() else { return Ok(()) };
        for number in clients {
            let (address, port) = client(CLIENTS.to_bits(), number);
            let key = FlowKey {
                source: address.to_be(),
                destination: network(SERVICE.0),
                source_port: port.to_be(),
                destination_port: SERVICE.1.to_be(),
                protocol: 6,
            };
            let Some(value) = flows.get(&key)? else { continue };
            flows.remove(&key)?;
            if self.method == Method::Nat {
                flows.remove(&key.other_half(&FlowValue { half: Half::Forward as u8, ..value }))?;
            }
        }
        Ok(())
    }
}

fn backend() -> Backend {
    Backend {
        address: Addr::from(BACKEND.0),
        tunnel_source: Addr::from(Ipv4Addr::new(10, 0, 0, 1)),
        next_hop: NextHop { destination: [2, 0, 0, 0, 0, 3], source: [2, 0, 0, 0, 0, 4], ifindex: INTERFACE },
        port: BACKEND.1.to_be(),
        mtu: 1500,
        flags: SERVING | RESOLVED,
        service: 0,
        zero: 0,
    }
}

fn network(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// Ethernet, IPv4 and TCP, from or to nobody yet. No program here verifies checksums, so none is filled in.
fn headers(kind: Kind) -> [u64; HEADERS / 8] {
    const ACK: u8 = 16;
    const SYN: u8 = 2;
    let ip_length = (OFFSET + size_of::<Timed>() - 14) as u16;
    let ((from, from_port), (to, to_port)) = match kind {
        Kind::Reply => (BACKEND, (Ipv4Addr::UNSPECIFIED, 0)),
        Kind::Hit | Kind::First | Kind::New | Kind::Syn => ((Ipv4Addr::UNSPECIFIED, 0), SERVICE),
    };
    let mut bytes = [0; HEADERS];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &NODE_MAC);
    put(6, &[2, 0, 0, 0, 0, 2, 8, 0]);
    put(14, &[0x45, 0]);
    put(16, &ip_length.to_be_bytes());
    put(22, &[64, 6]);
    put(26, &from.octets());
    put(30, &to.octets());
    put(34, &from_port.to_be_bytes());
    put(36, &to_port.to_be_bytes());
    put(46, &[0x50, if kind == Kind::Syn { SYN } else { ACK }]);
    zerocopy::transmute!(bytes)
}
