//! What tests of the flow table share: memory as the kernel would map it, and flows by number.

mod growth;
mod halves;
mod hammer;
mod model;
mod room;

use std::marker::PhantomData;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

use lb_common::addr::{Addr, Address};
use lb_common::extent;
use lb_common::flow::{Ports, REPLY, Set, Slot, live, place};
use lb_common::service::{Method, Sources};

use super::FlowTable;
use super::pool::{Member, Pool};

pub(in crate::dataplane) const SEED: u64 = 0x0123_4567_89ab_cdef;
pub(in crate::dataplane) const IDENTITY: u32 = 0xfeed_0000;
/// Source addresses of the pool, and the index of their record.
const SOURCES: u32 = 4;
const RECORD: u32 = 2;

/// Memory that several handles may map, as several of one map.
pub(in crate::dataplane) fn memory_file(bytes: usize) -> OwnedFd {
    // SAFETY: the name is a C string, and what comes back is a new descriptor or -1.
    let descriptor = unsafe { libc::memfd_create(c"map".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(descriptor >= 0);
    // SAFETY: just opened, and nobody else's.
    let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
    nix::unistd::ftruncate(&file, bytes as i64).unwrap();
    file
}

/// What several handles of one table map.
pub(in crate::dataplane) struct TableFile<A> {
    slots: OwnedFd,
    extents: OwnedFd,
    sets: u32,
    family: PhantomData<A>,
}

impl<A: Address> TableFile<A> {
    pub(in crate::dataplane) fn new(sets: u32) -> Self {
        let slots = memory_file(sets as usize * size_of::<Set<A>>());
        Self { slots, extents: memory_file(2 * size_of::<u64>()), sets, family: PhantomData }
    }

    pub(in crate::dataplane) fn map(&self) -> FlowTable<A> {
        FlowTable::map(self.slots.as_fd(), self.extents.as_fd(), self.sets, SEED).unwrap()
    }
}

pub(in crate::dataplane) fn table<A: Address>(sets: u32) -> FlowTable<A> {
    TableFile::new(sets).map()
}

/// Address number `number` of net `net`.
pub(in crate::dataplane) fn address<A: Address>(net: u8, number: u32) -> A {
    A::from_mapped(if A::IS_V4 {
        Addr::from_v4((u32::from(net) << 24 | number).to_be())
    } else {
        Addr::from_words([0x2001_0db8_u32.to_be(), u32::from(net), 0, number.to_be()])
    })
}

/// Backends 0 to 15; those with odd numbers have a port of their own.
pub(in crate::dataplane) fn pool<A: Address>() -> Pool {
    let mut sources = Sources { count: SOURCES, first_port: 2000, ports: 60_000, ..Sources::default() };
    for (number, source) in (0..SOURCES).zip(&mut sources.addresses) {
        *source = address::<A>(172, number).mapped();
    }
    let member = |number: u32| Member {
        identity: IDENTITY + number,
        address: address::<A>(10, number).mapped(),
        port: if number.is_multiple_of(2) { 0 } else { 8080_u16.to_be() },
    };
    Pool::new((0..16).map(|number| (number, member(number))), [(RECORD, sources)])
}

/// The forward half of a flow by number, and the reply half where there is one, told by hand rather than by the code under test.
/// The number of the forward half's slot, which a reply half of `fullnat` names, is `slot`.
pub(in crate::dataplane) fn halves<A: Address>(
    number: u32,
    method: Method,
    bits: u32,
    slot: u32,
) -> (Slot<A>, Option<Slot<A>>) {
    let (client, service, backend) = (address(192, number), address(203, 1), number % 16);
    let (client_port, service_port) = ((1024 + number as u16 % 60_000).to_be(), 443_u16.to_be());
    let backend_port = if backend % 2 == 0 { service_port } else { 8080_u16.to_be() };
    let (source, source_port) = (number % SOURCES, (2000 + number as u16 % 60_000).to_be());
    let full = method == Method::FullNat;
    let ports = |source, destination| Ports { source, destination }.word();
    let words = |first, second| {
        let mut other = A::to_other(service);
        other.as_mut().fill(0);
        other.as_mut()[..2].copy_from_slice(&[first, second]);
        other
    };
    let forward = Slot {
        source: client,
        destination: service,
        ports: ports(client_port, service_port),
        state: live(method as u32, bits, if full { source_port } else { 0 }),
        last_seen: 0,
        place: place(backend, 7),
        other: words(IDENTITY + backend, if full { RECORD * 16 + source } else { 0 }),
    };
    let nat = Slot {
        source: address(10, backend),
        destination: client,
        ports: ports(backend_port, client_port),
        state: live(method as u32, bits | REPLY, service_port),
        other: A::to_other(service),
        ..forward
    };
    match method {
        Method::Tunnel | Method::Direct => (forward, None),
        Method::Nat => (forward, Some(nat)),
        Method::FullNat => {
            let (destination, state) = (address(172, source), live(method as u32, bits | REPLY, 0));
            let ports = ports(backend_port, source_port);
            (forward, Some(Slot { destination, ports, state, other: words(slot, 0), ..nat }))
        }
    }
}

/// Puts a flow in, as the program does: the forward half first.
pub(in crate::dataplane) fn put<A: Address>(
    table: &FlowTable<A>,
    number: u32,
    method: Method,
    bits: (u32, u32),
    last_seen: (u32, u32),
) -> (u32, Option<u32>) {
    let (forward, _) = halves::<A>(number, method, bits.0, 0);
    let at = table.insert(&Slot { last_seen: last_seen.0, ..forward }).unwrap();
    let (_, reply) = halves::<A>(number, method, bits.1, at);
    (at, reply.map(|reply| table.insert(&Slot { last_seen: last_seen.1, ..reply }).unwrap()))
}

/// All that a slot says, to compare.
pub(in crate::dataplane) fn words<A: Address>(slot: &Slot<A>) -> (Addr, Addr, [u32; 4], Vec<u32>) {
    let Slot { source, destination, ports, state, last_seen, place, other } = slot;
    let numbers = [*ports, *state, *last_seen, *place];
    (source.mapped(), destination.mapped(), numbers, other.as_ref().to_vec())
}

impl<A: Address> FlowTable<A> {
    pub(super) fn level(&self) -> u32 {
        extent::level(self.extent.load())
    }

    /// Whether nothing is to be looked for elsewhere than in its place.
    pub(super) fn is_settled(&self) -> bool {
        self.extent.load() == extent::settled(self.extent.load())
    }

    pub(in crate::dataplane) fn is_all_zeros(&self) -> bool {
        self.memory.words().iter().all(|word| word.load(Relaxed) == 0)
    }
}
