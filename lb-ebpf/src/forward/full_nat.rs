//! Source and destination rewritten: replies come back to an address of the node, whatever routes the backend has.

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, Address};
use lb_common::backend::Backend;
use lb_common::flow::{self, FlowKey, Ports, Slot};
use lb_common::service::{Method, SOURCES};

use crate::forward::{Way, nat, port};
use crate::maps::{flows, pools};
use crate::packet::{Family, Packet};

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

/// Client to backend, from the address and port of the node that the flow was given.
#[inline(always)]
pub(super) fn rewrite<A: Family>(ctx: &XdpContext, packet: &Packet<A>, backend: &Backend, way: &Way) {
    let ports = Ports { source: way.source_port, destination: port(backend, packet.key.ports.destination) };
    nat::rewrite(ctx, packet, source(way.source), A::from_mapped(backend.address), ports);
}

/// The forward half of a reply, by the number of its slot: all that the client knows is in its key. One that has become
/// another flow's was not given the address and port that the reply goes to.
#[inline(always)]
pub(crate) fn forward_half<A: Family>(key: &FlowKey<A>, number: u32) -> Option<*mut Slot<A>> {
    let forward = flows::get::<A>(number)?;
    // SAFETY: a slot stays readable until this program ends.
    let (state, given) = unsafe { ((*forward).state, source::<A>((*forward).other.as_ref()[1])) };
    let same = state & flow::REPLY == 0
        && flow::method(state) == Method::FULL_NAT
        && flow::port(state) == key.ports.destination
        && given == key.destination;
    if same { Some(forward) } else { None }
}
