//! Whom an error is for.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::flow::{self, FlowKey, HalfOpen, Ports, REPLY, Slot};
use lb_common::service::{Method, Service};

use super::translate::translate;
use crate::clock::now;
use crate::forward::{self, Ends, full_nat};
use crate::maps::scratch::{self, About, Scratch};
use crate::maps::{backends, flows, half_open, services};
use crate::miss;
use crate::packet::{Control, Family};

/// Neither a flow nor a service.
pub(super) const NOBODYS: u32 = 0;
/// The flow's backend serves no more.
pub(super) const LOST: u32 = 1;
/// Sent to another host's MAC address.
pub(super) const OTHERS: u32 = 2;
/// Of a source that the service does not let in.
pub(super) const DENIED: u32 = 3;
pub(super) const BACKENDS: u32 = 4;
pub(super) const CLIENTS: u32 = 5;

/// Says whose a packet with the key in the scratch record is, and leaves there how it gets to them. Visible outside of
/// the object, so that the verifier looks at each by itself ("Function by function verification" in
/// Documentation/bpf/bpf_design_QA.rst).
pub(crate) trait Whose: Control {
    fn whose() -> u32;
    /// See [`translate`].
    fn translate(ctx: *mut xdp_md);
}

impl Whose for V4 {
    #[inline(always)]
    fn whose() -> u32 {
        ek_whose4()
    }

    #[inline(always)]
    fn translate(ctx: *mut xdp_md) {
        ek_translate4(ctx);
    }
}

impl Whose for Addr {
    #[inline(always)]
    fn whose() -> u32 {
        ek_whose6()
    }

    #[inline(always)]
    fn translate(ctx: *mut xdp_md) {
        ek_translate6(ctx);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_whose4() -> u32 {
    whose::<V4>()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_whose6() -> u32 {
    whose::<Addr>()
}

/// What it returns says nothing: a function that the verifier looks at by itself returns a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_translate4(ctx: *mut xdp_md) -> u32 {
    translate::<V4>(&XdpContext::new(ctx));
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_translate6(ctx: *mut xdp_md) -> u32 {
    translate::<Addr>(&XdpContext::new(ctx));
    0
}

#[inline(always)]
fn whose<A: Family>() -> u32 {
    let Some(scratch) = scratch::get() else {
        return NOBODYS;
    };
    // SAFETY: the record is this CPU's own; it holds a key of this family.
    let (key, about) =
        unsafe { (&*Scratch::key_of::<A>(&raw mut (*scratch).request.key), &mut (*scratch).about) };
    let whose = if let Some(slot) = flows::look_up(key) {
        by_flow(key, slot, about)
    } else if let Some(known) = half_open::get(key)
        && let Some(service) = services::get(known.service)
        && now().wrapping_sub(known.since) <= service.half_open
    {
        by_half_open(key, known, service, about)
    } else {
        by_service(key, about)
    };
    if whose == BACKENDS { at_backend(key, about) } else { whose }
}

#[inline(always)]
fn by_flow<A: Family>(key: &FlowKey<A>, slot: *mut Slot<A>, about: &mut About) -> u32 {
    // SAFETY: a slot stays readable until this program ends.
    let (state, place, other) = unsafe { ((*slot).state, (*slot).place, (*slot).other) };
    let [first, second] = [other.as_ref()[0], other.as_ref()[1]];
    let method = flow::method(state);
    if state & REPLY == 0 {
        about.method = method;
        about.backend = flow::backend(place);
        about.identity = first;
        about.given = second;
        about.given_port = u32::from(flow::port(state));
        return BACKENDS;
    }
    let Some(ends) = Ends::of_flow(key, state, &other) else {
        return NOBODYS;
    };
    to_client(&ends, flow::hop(place), about)
}

#[inline(always)]
fn by_half_open<A: Family>(key: &FlowKey<A>, known: &HalfOpen, service: &Service, about: &mut About) -> u32 {
    let method = flow::method(known.state);
    if known.state & REPLY == 0 {
        if !miss::is_let_in(key.source, known.service, service) {
            return DENIED;
        }
        about.method = method;
        about.backend = flow::backend(known.place);
        about.identity = known.identity;
        about.given = known.address.v4();
        about.given_port = u32::from(known.port);
        return BACKENDS;
    }
    to_client(&Ends::of_half_open(key, known), flow::hop(known.place), about)
}

#[inline(always)]
fn to_client<A: Family>(ends: &Ends<A>, hop: u32, about: &mut About) -> u32 {
    about.hop = hop;
    about.source = ends.service.mapped();
    about.destination = ends.client.mapped();
    about.ports = ends.ports.word();
    CLIENTS
}

/// Where the service would send a packet of a flow that left no state. With `fullnat` no flow goes without.
#[inline(always)]
fn by_service<A: Family>(key: &FlowKey<A>, about: &mut About) -> u32 {
    let number = miss::listener(key.destination, key.ports.destination, key.protocol as u8);
    let Some(service) = services::get(number) else {
        return NOBODYS;
    };
    let method = u32::from(service.method);
    if method == Method::FULL_NAT || !miss::is_told(service) {
        return NOBODYS;
    }
    if !miss::is_let_in(key.source, number, service) {
        return DENIED;
    }
    about.method = method;
    about.backend = miss::told(key, number, service);
    about.identity = backends::get(about.backend).map_or(0, |backend| backend.identity);
    BACKENDS
}

/// What a packet to the backend has once it is rewritten.
#[inline(always)]
fn at_backend<A: Family>(key: &FlowKey<A>, about: &mut About) -> u32 {
    let Some(backend) = backends::get(about.backend) else {
        return LOST;
    };
    if !backends::serves(backend, about.identity) {
        return LOST;
    }
    let full = about.method == Method::FULL_NAT;
    about.source = if full { full_nat::source::<A>(about.given) } else { key.source }.mapped();
    about.destination = backend.address;
    about.ports = Ports {
        source: if full { about.given_port as u16 } else { key.ports.source },
        destination: forward::port(backend, key.ports.destination),
    }
    .word();
    BACKENDS
}
