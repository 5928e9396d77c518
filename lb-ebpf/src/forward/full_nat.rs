//! Source and destination rewritten: replies come back to an address of the node, whatever routes the backend has.

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, Address};
use lb_common::backend::Backend;
use lb_common::flow::{self, Ports, Slot};
use lb_common::reason::Reason;
use lb_common::service::SOURCES;

use crate::forward::{check, check_hops_left, nat, port};
use crate::maps::{flows, hops, pools};
use crate::packet::{Family, Packet};
use crate::transmit::transmit;

/// Pool of a service, and number of an address in it, in one word.
#[inline(always)]
pub(crate) const fn source_number(pool: u32, address: u32) -> u32 {
    pool << 4 | address & (SOURCES as u32 - 1)
}

/// The address by that word.
#[inline(always)]
pub(crate) fn source<A: Address>(number: u32) -> A {
    let address = match pools::get(number >> 4) {
        Some(pool) => pool.addresses[number as usize & (SOURCES - 1)],
        None => Addr::default(),
    };
    A::from_mapped(address)
}

/// Client to backend, of a flow in the flow table.
#[inline(always)]
pub(crate) fn to_backend<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    slot: *mut Slot<A>,
    backend: &Backend,
) -> Result<u32, Reason> {
    // SAFETY: a slot stays readable until this program ends.
    let (state, number) = unsafe { ((*slot).state, (*slot).other.as_ref()[1]) };
    rewrite(ctx, packet, backend, source(number), flow::port(state))
}

/// Client to backend, from an address and port of the node.
#[inline(always)]
pub(crate) fn rewrite<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    backend: &Backend,
    address: A,
    source_port: u16,
) -> Result<u32, Reason> {
    check(ctx, packet, backend, 0)?;
    let ports = Ports { source: source_port, destination: port(backend, packet.key.ports.destination) };
    nat::rewrite(ctx, packet, address, A::from_mapped(backend.address), ports);
    transmit(ctx, &backend.next_hop, A::ETHERTYPE)
}

/// Backend to client: everything that the client knows is in the key of the forward half.
#[inline(always)]
pub(crate) fn to_client<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    slot: *mut Slot<A>,
) -> Result<u32, Reason> {
    // SAFETY: a slot stays readable until this program ends.
    let (number, place) = unsafe { ((*slot).other.as_ref()[0], (*slot).place) };
    let Some(forward) = flows::get::<A>(number) else {
        return Err(Reason::NoWayBack);
    };
    // SAFETY: as above.
    let forward = unsafe { &*forward };
    // A slot that has become another flow's was not given this address and port.
    let given: A = source(forward.other.as_ref()[1]);
    if forward.state & flow::REPLY != 0
        || flow::port(forward.state) != packet.key.ports.destination
        || given != packet.key.destination
    {
        return Err(Reason::NoWayBack);
    }
    let ports = Ports::from_word(forward.ports).turned();
    to(ctx, packet, (forward.destination, forward.source), ports, flow::hop(place))
}

/// Backend to client, with the service's and the client's address and ports.
#[inline(always)]
pub(crate) fn to<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    (service, client): (A, A),
    ports: Ports,
    hop: u32,
) -> Result<u32, Reason> {
    check_hops_left(packet)?;
    let Some(hop) = hops::get(hop) else {
        return Err(Reason::NoWayBack);
    };
    nat::rewrite(ctx, packet, service, client, ports);
    transmit(ctx, hop, A::ETHERTYPE)
}
