//! How long a sweep over millions of flows takes, on memory like that of the maps.

use std::env;
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::dataplane::flow_table::FlowTable;
use evenkeel::dataplane::flow_table::hops::Hops;
use evenkeel::dataplane::flow_table::pool::{Member, Pool};
use evenkeel::dataplane::sweep::{Now, Orders, Sweeper};
use lb_common::addr::{Addr, Address, V4};
use lb_common::backend::Hop;
use lb_common::flow::{Ports, REPLY, SEEN_FIN, Set, Slot, live, place};
use lb_common::limits;
use lb_common::service::Method;

/// 256 MiB for IPv4, 512 MiB for IPv6.
const SETS: u32 = 1 << 20;
const NO_SETS: u32 = 2;
const IDENTITY: u32 = 1;

fn main() -> anyhow::Result<()> {
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    for (what, flows, method, bits) in [
        ("direct", 4_000_000, Method::Direct, 0),
        ("nat", 2_400_000, Method::Nat, 0),
        ("nat, ended", 2_400_000, Method::Nat, SEEN_FIN),
    ] {
        let sweeper = sweeper(table(SETS)?, table(NO_SETS)?)?;
        measure::<V4>(what, sweeper, |sweeper| &sweeper.ipv4, flows, (method, bits));
    }
    let sweeper = sweeper(table(NO_SETS)?, table(SETS)?)?;
    measure::<Addr>("nat, IPv6", sweeper, |sweeper| &sweeper.ipv6, 2_400_000, (Method::Nat, 0));
    Ok(())
}

fn measure<A: Address>(
    what: &str,
    mut sweeper: Sweeper,
    table: impl Fn(&Sweeper) -> &FlowTable<A>,
    flows: u32,
    (method, bits): (Method, u32),
) {
    let member = |number| Member { identity: IDENTITY, address: address::<A>(10, number).mapped(), port: 0 };
    let pool = Pool::new((0..16).map(|number| (number, member(number))), []);
    let orders = Orders { pool: Arc::new(pool), ..Orders::default() };
    let ticks = |time: Duration| time.as_secs() as u32;
    let sweep = |sweeper: &mut Sweeper, jiffies| {
        let started = Instant::now();
        let census = sweeper.sweep(&orders, Now { jiffies, ticks: &ticks }, || {});
        (started.elapsed().as_millis(), census)
    };
    let (mut full, mut longest) = (0_u32, 0);
    for number in 0..flows {
        let (forward, reply) = halves::<A>(number, method as u32, bits);
        let table = table(&sweeper);
        let stored = table.insert(&forward);
        full += u32::from(stored.is_err() || method == Method::Nat && table.insert(&reply).is_err());
        if number % (flows / 40) == 0 {
            longest = sweep(&mut sweeper, 1).0.max(longest);
        }
    }
    println!("{full} of {flows} flows found no slot; the longest sweep while the table grew: {longest} ms");
    for (when, jiffies) in [("first", 1), ("second", 1), ("as all expire", 10_000)] {
        let (took, census) = sweep(&mut sweeper, jiffies);
        let (entries, expired) = (census.entries(), census.expired);
        println!("{what}, {when}: {took} ms; {entries} halves, {expired} flows expired");
    }
}

fn halves<A: Address>(number: u32, method: u32, bits: u32) -> (Slot<A>, Slot<A>) {
    let ports = Ports { source: (1024 + number as u16 % 60_000).to_be(), destination: 443_u16.to_be() };
    let mut other = address::<A>(0, 0).to_other();
    other.as_mut().fill(0);
    other.as_mut()[0] = IDENTITY;
    let (client, service) = (address::<A>(192, number), address::<A>(203, 1));
    let forward = Slot {
        source: client,
        destination: service,
        ports: ports.word(),
        state: live(method, bits, 0),
        last_seen: 0,
        place: place(number % 16, 0),
        other,
    };
    let reply = Slot {
        source: address(10, number % 16),
        destination: client,
        ports: ports.turned().word(),
        state: live(method, bits | REPLY, ports.destination),
        other: service.to_other(),
        ..forward
    };
    (forward, reply)
}

fn address<A: Address>(net: u32, number: u32) -> A {
    A::from_mapped(if A::IS_V4 {
        Addr::from_v4((net << 24 | number).to_be())
    } else {
        Addr::from_words([0x2001_0db8_u32.to_be(), net, 0, number.to_be()])
    })
}

fn sweeper(ipv4: FlowTable<V4>, ipv6: FlowTable<Addr>) -> io::Result<Sweeper> {
    let hops = memory(limits::HOPS as usize * size_of::<Hop>())?;
    Ok(Sweeper::new(ipv4, ipv6, Hops::map(hops.as_fd())?))
}

fn table<A: Address>(sets: u32) -> io::Result<FlowTable<A>> {
    let (slots, extents) = (memory(sets as usize * size_of::<Set<A>>())?, memory(2 * size_of::<u64>())?);
    FlowTable::map(slots.as_fd(), extents.as_fd(), sets, 0x0123_4567_89ab_cdef)
}

fn memory(bytes: usize) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string, and what comes back is a new descriptor or -1.
    let descriptor = unsafe { libc::memfd_create(c"map".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
    nix::unistd::ftruncate(&file, bytes as i64)?;
    Ok(file)
}
