//! Rewrites: one file a forwarding method.

pub(crate) mod direct;
mod ends;
pub(crate) mod full_nat;
pub(crate) mod nat;
pub(crate) mod tunnel;

use aya_ebpf::programs::XdpContext;
use lb_common::backend::{Backend, RESOLVED};
use lb_common::reason::Reason;
use lb_common::service::Method;

pub(crate) use ends::Ends;

use crate::maps::{hops, scratch};
use crate::miss::Answer;
use crate::packet::{Control, Family, Packet};
use crate::too_big;
use crate::transmit::transmit;

/// How a packet gets to a backend. Numbers and no pointers: what the compiler merges from several branches, the verifier must
/// still know.
pub(crate) struct Way {
    pub(crate) method: u32,
    /// What `fullnat` gave the flow.
    pub(crate) source: u32,
    pub(crate) source_port: u16,
}

impl Way {
    #[inline(always)]
    pub(crate) fn by(answer: Answer) -> Self {
        let (source, source_port) = match scratch::get() {
            // SAFETY: the record is this CPU's own.
            Some(scratch) => unsafe { ((*scratch).decision.source, (*scratch).decision.source_port) },
            None => (0, 0),
        };
        Self { method: answer.method(), source, source_port }
    }
}

/// Client to backend. The packet is untouched if this fails.
#[inline(always)]
pub(crate) fn to_backend<A: Control>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    way: &Way,
    backend: &Backend,
) -> Result<u32, Reason> {
    check(ctx, packet, backend, tunnel::overhead(way.method, backend))?;
    match way.method {
        Method::NAT => {
            let port = port(backend, packet.key.ports.destination);
            nat::rewrite_destination(ctx, packet, A::from_mapped(backend.address), port);
        }
        Method::TUNNEL => return tunnel::encapsulate(ctx, packet, backend),
        Method::DIRECT => direct::rewrite(packet),
        Method::FULL_NAT => full_nat::rewrite(ctx, packet, backend, way),
        _ => return Err(Reason::Internal),
    }
    transmit(ctx, &backend.next_hop, A::ETHERTYPE)
}

/// Backend to client, `nat` and `fullnat`, between the ends that the client knows.
#[inline(always)]
pub(crate) fn to_client<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    ends: &Ends<A>,
    hop: u32,
) -> Result<u32, Reason> {
    check_hops_left(packet)?;
    let Some(hop) = hops::get(hop) else {
        return Err(Reason::NoWayBack);
    };
    nat::rewrite(ctx, packet, ends.service, ends.client, ends.ports);
    transmit(ctx, hop, A::ETHERTYPE)
}

/// The port that a packet to `port` has at the backend.
#[inline(always)]
pub(crate) const fn port(backend: &Backend, port: u16) -> u16 {
    if backend.port == 0 { port } else { backend.port }
}

/// Whether the packet can go on to the backend, with `overhead` bytes in front.
#[inline(always)]
pub(crate) fn check<A: Control>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    backend: &Backend,
    overhead: u32,
) -> Result<(), Reason> {
    if backend.flags & RESOLVED == 0 {
        return Err(Reason::NextHopUnresolved);
    }
    check_hops_left(packet)?;
    if packet.ip_length + overhead > u32::from(backend.mtu) {
        let fits = u32::from(backend.mtu).saturating_sub(overhead);
        return Err(if too_big::answer::<A>(ctx.ctx, fits) {
            Reason::FragmentationNeeded
        } else {
            Reason::TooBig
        });
    }
    Ok(())
}

/// A forwarder sends on no packet whose time to live would become 0 (RFC 1812 section 5.3.1, RFC 8200 section 3).
#[inline(always)]
pub(crate) fn check_hops_left<A: Family>(packet: &Packet<A>) -> Result<(), Reason> {
    // SAFETY: parsing compared the header with the end of the packet.
    if unsafe { A::hops_left(packet.ip) } <= 1 { Err(Reason::TtlExceeded) } else { Ok(()) }
}
