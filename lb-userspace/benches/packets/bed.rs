//! A private copy of the program with one service, and runs of many rounds through it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use evenkeel::dataplane::clock::Clock;
use evenkeel::dataplane::flow_table::pairs::Other;
use evenkeel::dataplane::flow_table::pool::{Member, Pool};
use evenkeel::dataplane::flow_table::{FlowTable, key};
use evenkeel::dataplane::maps::Records;
use evenkeel::dataplane::sweep::{Now, Orders, Sweeper};
use evenkeel::dataplane::{DataPlane, Sizes, object};
use evenkeel::desired::Listener;
use lb_common::addr::{Addr, Address, V4};
use lb_common::backend::Backend;
use lb_common::flow::{FlowKey, REPLY};
use lb_common::hash::flow_hash;
use lb_common::limits::{HALF_OPEN, SEEN, TABLE_ENTRIES};
use lb_common::service::{Method, NO_TABLE, STATELESS, Service};
use lb_common::station::Station;
use lb_common::timed::{self, OFFSET, TO_CLIENT, TO_NODE, TO_SERVICE, Timed};
use nix::time::{ClockId, clock_gettime};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::case::{Kind, Path};
use crate::headers::{self, ALLOCATED, BACKEND_PORT, BACKENDS, CLIENTS, INTERFACE, NODE_MAC, PORT};

pub(crate) struct Bed {
    plane: DataPlane,
    pub(crate) path: Path,
    replies: Records<u32>,
    /// With backends and sources as the program knows them.
    orders: Orders,
    clock: Clock,
    /// Established flows.
    flows: u32,
    /// Address of the first client of the next batch of new flows.
    strangers: u32,
    /// Rounds of the flood so far.
    flooded: u64,
}

/// Clients that open flows and are forgotten, and clients that only ever send a SYN.
const STRANGERS: u32 = CLIENTS + (1 << 20);
const FLOOD: u32 = CLIENTS + (1 << 21);
/// Sources of the flood. Runs go on where the last one ended, and all of them together show each.
const FLOOD_SOURCES: u64 = 1 << 22;

const XDP_TX: u32 = 3;
/// Odd, so that it visits every client, and large, so that it visits them in another order than they came in.
const STRIDE: u64 = 0x9e37_79b1;
/// New flows in one run: many enough that the cold start of a run does not count, and few enough that none loses its
/// fingerprint before it shows a second packet.
pub(crate) const BATCH: u32 = 1 << 12;
/// Clients of one address.
const PORTS: u32 = 1 << 14;
/// Flows that are established at once.
const CHUNK: u32 = 1 << 14;
/// With `fullnat`, so that the ports of one do not run out.
const FULL_NAT_BACKENDS: u32 = 8;

impl Bed {
    /// For so many flows at the most, a power of two. The tables are not smaller than those that ship.
    pub(crate) fn new(path: Path, most: u32) -> Result<Self> {
        let entries = path.entries() * (most + BATCH);
        let sizes = if path.ipv6 {
            Sizes::of(1024, (entries + entries / 4).max(1 << 18))
        } else {
            Sizes::of((entries + entries / 4).max(1 << 20), 1024)
        };
        let mut plane = DataPlane::load_private(object::BENCH, sizes, HALF_OPEN)?;
        let station = Station { ifindex: INTERFACE, address: NODE_MAC, zero: 0 };
        plane.stations.set(&BTreeSet::from([station]))?;
        let backends = if path.method == Method::FullNat { FULL_NAT_BACKENDS } else { 1 };
        for number in 0..backends {
            plane.backends.write(number, &headers::backend(path, number))?;
        }
        let table: Vec<u32> = (0..TABLE_ENTRIES).map(|entry| entry % backends).collect();
        plane.tables.write(0, &table)?;
        plane.pools.write(0, &headers::sources(path.ipv6))?;
        let service = Service {
            table: 0,
            previous: NO_TABLE,
            method: path.method as u8,
            flags: if path.replies() { 0 } else { STATELESS },
            // A minute, of the longest jiffies.
            half_open: 6000,
            ..Service::default()
        };
        plane.services.write(0, &service)?;
        let listener = Listener { address: headers::service(path.ipv6), protocol: 6, port: PORT };
        plane.listeners.write(&listener, 0)?;
        let replies = plane.records("ek_timed")?;
        let members = (0..backends).map(|number| {
            let Backend { identity, address, port, .. } = headers::backend(path, number);
            (number, Member { identity, address, port })
        });
        let pool = Arc::new(Pool::new(members, [(0, headers::sources(path.ipv6))]));
        let orders = Orders { pool, ..Orders::default() };
        let clock = Clock::measure(&mut plane)?;
        Ok(Self { plane, path, replies, orders, clock, flows: 0, strangers: STRANGERS, flooded: 0 })
    }

    /// Establishes flows until there are so many, a power of two.
    pub(crate) fn grow(&mut self, flows: u32) -> Result<()> {
        while self.flows < flows {
            let count = CHUNK.min(flows - self.flows).next_power_of_two();
            self.establish(CLIENTS + self.flows / PORTS, count)?;
            self.flows = (self.flows / PORTS * PORTS + count).min(flows);
            self.sweep()?;
        }
        let entries = if self.path.ipv6 {
            self.list(|tables| &tables.ipv6)?
        } else {
            self.list(|tables| &tables.ipv4)?
        };
        ensure!(
            entries == flows * self.path.entries(),
            "{:?}: the flow table has {entries} entries with {flows} flows",
            self.path
        );
        Ok(())
    }

    /// Lets the flow tables grow. No program runs meanwhile.
    fn sweep(&mut self) -> Result<()> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let clock = self.clock;
        let now = Now { jiffies: clock.jiffies(now.into()), ticks: &move |time| clock.ticks(time) };
        let sweeper = self.plane.sweeper.as_mut().context("the flow tables were handed away")?;
        sweeper.sweep(&self.orders, now, || {});
        Ok(())
    }

    /// Of what shows two packets, nearly all enters the flow table: a fingerprint that was lost takes another two.
    fn establish(&mut self, first: u32, count: u32) -> Result<()> {
        for pass in 0..60_u64 {
            // Another order each time: three whose fingerprints are in one word would push each other out for ever in one.
            let stride = (2 * pass + 1).wrapping_mul(0x9e37_79b1);
            let before = self.counted(Kind::Hit)?;
            self.run("evenkeel", &self.timed(Kind::Hit, first, count, stride), count)?;
            if self.counted(Kind::Hit)? - before == u64::from(count) {
                return Ok(());
            }
        }
        anyhow::bail!("{:?}: not all of {count} flows enter the flow table", self.path)
    }

    /// Counts entries of the flow table, and lists where replies of `fullnat` go.
    fn list<A: Address>(&mut self, table: impl Fn(&Sweeper) -> &FlowTable<A>) -> Result<u32> {
        let table = table(self.plane.sweeper.as_ref().context("the flow tables were handed away")?);
        let (mut entries, mut replies) = (0, 0);
        for (_, half) in table.live() {
            entries += 1;
            if self.path.method == Method::FullNat && half.state & REPLY != 0 {
                let FlowKey { source, destination, ports, .. } = key(&half);
                let backend = headers::word(source.mapped()) - BACKENDS;
                let allocated = headers::word(destination.mapped()) - ALLOCATED;
                ensure!(ports.source == BACKEND_PORT.to_be(), "a reply comes from another port");
                let reply = timed::reply(backend as u8, allocated as u8, u16::from_be(ports.destination));
                self.replies.write(replies, &reply)?;
                replies += 1;
            }
        }
        Ok(entries)
    }

    /// Nanoseconds a packet of every kind, over what the empty program takes just before. `rounds` is for packets of known
    /// flows.
    pub(crate) fn measure(&mut self, rounds: u32) -> Result<Vec<(Kind, f64)>> {
        let mut samples = Vec::new();
        for kind in self.path.kinds() {
            match kind {
                Kind::First => samples.extend(self.measure_new()?),
                // With the first ones.
                Kind::New => {}
                Kind::Hit | Kind::Reply => {
                    let timed = self.timed(kind, CLIENTS, self.flows, STRIDE);
                    samples.push((kind, self.measure_over(&timed, kind, rounds)?));
                }
                Kind::Read => samples.push((kind, self.measure_read(rounds)?)),
                Kind::Syn => {
                    let mask = FLOOD_SOURCES - 1;
                    let timed = Timed { round: self.flooded, mask, ..self.timed(kind, FLOOD, 1, STRIDE) };
                    // Where they leave state, they take several times as long.
                    let rounds = if self.path.replies() { 1 << 18 } else { 1 << 20 };
                    self.flooded += u64::from(rounds);
                    samples.push((kind, self.measure_over(&timed, kind, rounds)?));
                }
            }
        }
        Ok(samples)
    }

    /// Nanoseconds that one call of a helper takes.
    pub(crate) fn measure_call(&mut self) -> Result<f64> {
        let timed = self.timed(Kind::Hit, CLIENTS, 1, STRIDE);
        let rounds = 1 << 18;
        Ok(self.run("called", &timed, rounds)? - self.run("empty", &timed, rounds)?)
    }

    /// Nanoseconds that one read of the flow table takes, at as many places as there are flows, all over the part that is in use. None of
    /// it moves the start of the packet.
    fn measure_read(&mut self, rounds: u32) -> Result<f64> {
        let sweeper = self.plane.sweeper.as_ref().context("the flow tables were handed away")?;
        let timed = Timed {
            moves: 0,
            spacing: sweeper.ipv4.slots_in_use() / self.flows,
            ..self.timed(Kind::Read, CLIENTS, self.flows, STRIDE)
        };
        let empty = self.run("empty", &timed, rounds)?;
        Ok(self.run("read", &timed, rounds)? - empty)
    }

    fn measure_over(&mut self, timed: &Timed, kind: Kind, rounds: u32) -> Result<f64> {
        let empty = self.run("empty", timed, rounds)?;
        Ok(self.run_counted(timed, kind, rounds)? - empty)
    }

    /// First and second packets of clients that were never seen before.
    fn measure_new(&mut self) -> Result<[(Kind, f64); 2]> {
        let first = self.fresh()?;
        let timed = self.timed(Kind::First, first, BATCH, 1);
        let empty = self.run("empty", &timed, BATCH)?;
        let opening = self.run_counted(&timed, Kind::First, BATCH)?;
        let entering = self.run_counted(&timed, Kind::New, BATCH)?;
        self.forget(first)?;
        Ok([(Kind::First, opening - empty), (Kind::New, entering - empty)])
    }

    /// The first address of a batch of which no three clients leave their fingerprints in one word, which has room for two.
    fn fresh(&mut self) -> Result<u32> {
        for _ in 0..1000 {
            let first = self.strangers;
            self.strangers += BATCH.div_ceil(PORTS);
            ensure!(self.strangers < FLOOD, "there are no strangers left");
            let mut words = BTreeMap::new();
            for number in 0..BATCH {
                let hash = self.hash(&headers::key(self.path.ipv6, first, number));
                *words.entry(hash as u32 & (SEEN - 1)).or_insert(0) += 1;
            }
            if words.values().all(|count| *count <= 2) {
                return Ok(first);
            }
        }
        anyhow::bail!("every batch has three fingerprints in one word")
    }

    /// Where the program leaves a flow's fingerprint.
    fn hash(&self, key: &FlowKey<Addr>) -> u64 {
        if self.path.ipv6 { flow_hash(key) } else { flow_hash(&unmapped(key)) }
    }

    /// Takes the flows of strangers out of the table. No program runs meanwhile.
    fn forget(&mut self, first: u32) -> Result<()> {
        let keys = (0..BATCH).map(|number| headers::key(self.path.ipv6, first, number));
        let sweeper = self.plane.sweeper.as_mut().context("the flow tables were handed away")?;
        if self.path.ipv6 {
            forget(&mut sweeper.ipv6, keys, &self.orders.pool)
        } else {
            forget(&mut sweeper.ipv4, keys.map(|key| unmapped(&key)), &self.orders.pool)
        }
    }

    fn run_counted(&mut self, timed: &Timed, kind: Kind, rounds: u32) -> Result<f64> {
        let before = self.counted(kind)?;
        let time = self.run("evenkeel", timed, rounds)?;
        let counted = self.counted(kind)? - before;
        ensure!(
            counted == u64::from(rounds),
            "{kind:?} of {:?}: {counted} of {rounds} packets were counted as {}",
            self.path,
            kind.reason().as_str()
        );
        Ok(time)
    }

    /// Nanoseconds a packet, by the kernel's own clock around all rounds.
    fn run(&mut self, program: &'static str, timed: &Timed, rounds: u32) -> Result<f64> {
        let mut frame = vec![0; OFFSET + size_of::<Timed>()];
        frame[OFFSET..].copy_from_slice(timed.as_bytes());
        let mut out = frame.clone();
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut out);
        options.repeat = rounds;
        let result = self.plane.program_named(program)?.test_run(options)?;
        let after = Timed::read_from_bytes(&out[OFFSET..])
            .map_err(|_| anyhow::anyhow!("{program} left a frame of another length"))?;
        ensure!(
            after.expected == u64::from(rounds) && after.round == timed.round + u64::from(rounds),
            "{program}, {:?}: {} of {rounds} rounds ended as expected",
            self.path,
            after.expected
        );
        Ok(result.duration.as_nanos() as f64)
    }

    /// Rounds by so many clients.
    fn timed(&self, kind: Kind, first: u32, clients: u32, stride: u64) -> Timed {
        let to_node = self.path.method == Method::FullNat;
        Timed {
            headers: headers::headers(self.path.ipv6, kind),
            stride,
            mask: u64::from(clients - 1),
            client: first,
            direction: match kind {
                Kind::Reply if to_node => TO_NODE,
                Kind::Reply => TO_CLIENT,
                Kind::Hit | Kind::First | Kind::New | Kind::Syn | Kind::Read => TO_SERVICE,
            },
            ipv6: u32::from(self.path.ipv6),
            backend: BACKENDS,
            allocated: ALLOCATED,
            moves: u32::from(self.path.method == Method::Tunnel),
            action: XDP_TX,
            ..Timed::default()
        }
    }

    fn counted(&self, kind: Kind) -> Result<u64> {
        let counts = self.plane.reasons.read()?;
        Ok(counts.into_iter().find(|(reason, _)| *reason == kind.reason()).map_or(0, |(_, count)| count))
    }
}

/// Takes flows, both halves, out of a table.
fn forget<A: Address>(
    table: &mut FlowTable<A>,
    keys: impl Iterator<Item = FlowKey<A>>,
    pool: &Pool,
) -> Result<()> {
    for key in keys {
        let number = table.find(&key).context("a new flow is not in the table")?;
        let half = table.get(number).context("a new flow is not live")?;
        let other = match table.other_half(number, &half, pool) {
            Other::There { number, .. } => Some(number),
            Other::None => None,
            Other::Missing | Other::Taken | Other::Unknown => anyhow::bail!("half of a new flow is missing"),
        };
        for number in [Some(number), other].into_iter().flatten() {
            table.kill(number);
            table.free(number);
        }
    }
    Ok(())
}

fn unmapped(key: &FlowKey<Addr>) -> FlowKey<V4> {
    let FlowKey { source, destination, ports, protocol } = *key;
    FlowKey { source: V4::from_mapped(source), destination: V4::from_mapped(destination), ports, protocol }
}
