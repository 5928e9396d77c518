//! Where replies go, and how they are told.

use aya_ebpf::programs::XdpContext;
use lb_common::backend::{Backend, NextHop};
use lb_common::flow::{self, FlowKey, Ports, Slot};
use lb_common::service::Method;

use crate::clock::now;
use crate::forward;
use crate::maps::{flows, hops};
use crate::packet::{Ethernet, Family};

/// Where replies to the sender of this packet go: back the way it came.
#[inline(always)]
pub(crate) fn return_hop(ctx: &XdpContext, ethernet: *mut Ethernet, tags: u32) -> NextHop {
    // SAFETY: parsing compared the header with the end of the packet.
    let ethernet = unsafe { &*ethernet };
    NextHop {
        destination: ethernet.source,
        source: ethernet.destination,
        ifindex: ctx.ingress_ifindex() as u32,
        tags,
    }
}

/// Follows a client whose router changed: replies go where its packets come from now.
#[inline(always)]
pub(crate) fn follow_return_hop<A: Family>(
    key: &FlowKey<A>,
    slot: *mut Slot<A>,
    backend: &Backend,
    hop: &NextHop,
) {
    // SAFETY: a slot stays readable until this program ends.
    let place = unsafe { (*slot).place };
    if hops::get(flow::hop(place)).is_some_and(|known| known == hop) {
        return;
    }
    let place = flow::place(flow::backend(place), hops::number(hops::words(hop), now()));
    // SAFETY: as above.
    unsafe { (*slot).place = place };
    if let Some(reply) = flows::look_up(&reply_key(key, slot, backend)) {
        // SAFETY: as above.
        unsafe { (*reply).place = place };
    }
}

/// The key of a flow's reply half.
#[inline(always)]
pub(crate) fn reply_key<A: Family>(key: &FlowKey<A>, slot: *mut Slot<A>, backend: &Backend) -> FlowKey<A> {
    // SAFETY: a slot stays readable until this program ends.
    let (state, other) = unsafe { ((*slot).state, (*slot).other) };
    let (client, port) = if flow::method(state) == Method::FULL_NAT {
        (forward::full_nat::source(other.as_ref()[1]), flow::port(state))
    } else {
        (key.source, key.ports.source)
    };
    reply_key_to(key, backend, client, port)
}

/// As [`reply_key`], for packets that the backend sends to `address` and `port`.
#[inline(always)]
pub(crate) fn reply_key_to<A: Family>(
    key: &FlowKey<A>,
    backend: &Backend,
    address: A,
    port: u16,
) -> FlowKey<A> {
    FlowKey {
        source: A::from_mapped(backend.address),
        destination: address,
        ports: Ports { source: forward::port(backend, key.ports.destination), destination: port },
        protocol: key.protocol,
    }
}
