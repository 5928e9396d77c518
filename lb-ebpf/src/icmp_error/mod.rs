//! ICMP errors about packets of flows: unreachable, too big, time exceeded, parameter problem (RFC 792, RFC 4443).
//!
//! An error quotes the packet it is about, and goes to the sender of that. Turned around, the 5-tuple of the quoted packet is
//! that of a packet which goes the error's way, so it is the key of a flow: about an answer to a client it leads to the
//! backend that answered, and about a packet that was rewritten for a backend, to the client. The error is rewritten
//! as that packet would be, outside and in the quotation (RFC 5508 section 4.2), or wrapped as it would be. It changes no
//! state: a forged one goes where the flow goes and moves nothing.
//!
//! Errors about packets of the node itself are the kernel's, and those are all that routers send about the outer header
//! of a tunnel: it names the two ends of the tunnel and no client. From a "too big" among them the kernel learns the
//! size that the route takes only if somebody on the node has to do with the protocol that is quoted, as a tunnel device
//! or a raw socket has (`icmp_socket_deliver` in net/ipv4/icmp.c, `icmpv6_notify` in net/ipv6/icmp.c); user space has one.

mod translate;
mod whose;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::backend::RESOLVED;
use lb_common::flow::{FlowKey, Ports};
use lb_common::reason::Reason;
use lb_common::service::Method;

pub(crate) use whose::Whose;

use crate::balance::for_this_host;
use crate::forward::{check_hops_left, direct, tunnel};
use crate::maps::scratch::{self, About, Scratch};
use crate::maps::{backends, hops};
use crate::outcome::Outcome;
use crate::packet::{Control, Ethernet, Icmp, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Udp, at, holds, opaque};
use crate::transmit::transmit;

/// An error as it came.
struct Error<A: Control> {
    ethernet: *mut Ethernet,
    ip: *mut A::Header,
    icmp: *mut Icmp,
    quoted: *mut A::Header,
    /// Of the quoted transport header only the first eight bytes are promised (RFC 792).
    ports: *mut Udp,
    /// Where that header begins in the frame.
    transport: usize,
    /// Bytes of the IP packet.
    length: usize,
    /// The quoted 5-tuple turned around.
    key: FlowKey<A>,
}

/// What is no error about a flow is left to the kernel. Functions one after another, which would not fit on one stack.
#[inline(always)]
pub(crate) fn run<A: Whose>(ctx: *mut xdp_md) -> Outcome {
    match ask::<A>(ctx) {
        whose::NOBODYS => Outcome::because(Reason::OtherProtocol),
        whose::OTHERS => Outcome::because(Reason::OtherHost),
        whose::DENIED => Outcome::because(Reason::Denied),
        whose::LOST => Outcome::because(Reason::NoBackend),
        whose => Outcome::from_word(send::<A>(ctx, whose)),
    }
}

/// Whose it is.
#[inline(never)]
fn ask<A: Whose>(ctx: *mut xdp_md) -> u32 {
    let ctx = &XdpContext::new(ctx);
    let (Some(error), Some(scratch)) = (parse::<A>(ctx), scratch::get()) else {
        return whose::NOBODYS;
    };
    // SAFETY: the record is this CPU's own.
    unsafe { Scratch::key_of::<A>(&raw mut (*scratch).request.key).write(error.key) };
    let here = for_this_host(ctx, error.ethernet);
    match A::whose() {
        whose::NOBODYS => whose::NOBODYS,
        whose if here => whose,
        _ => whose::OTHERS,
    }
}

/// Sends it to them.
#[inline(never)]
fn send<A: Whose>(ctx: *mut xdp_md, whose: u32) -> u32 {
    let ctx = &XdpContext::new(ctx);
    let (Some(packet), Some(scratch)) = (packet::<A>(ctx), scratch::get()) else {
        return Outcome::because(Reason::Internal).word();
    };
    if let Err(reason) = check_hops_left(&packet) {
        return Outcome::because(reason).word();
    }
    // SAFETY: the record is this CPU's own.
    let about = unsafe { &(*scratch).about };
    let action =
        if whose == whose::CLIENTS { to_client::<A>(ctx, about) } else { to_backend(ctx, &packet, about) };
    Outcome::of(Reason::IcmpError, action).word()
}

#[inline(always)]
fn parse<A: Control>(ctx: &XdpContext) -> Option<Error<A>> {
    let icmp_at = size_of::<Ethernet>() + size_of::<A::Header>();
    let quoted_at = icmp_at + size_of::<Icmp>();
    let ethernet = at::<Ethernet>(ctx, 0)?;
    let ip = at::<A::Header>(ctx, size_of::<Ethernet>())?;
    let icmp = at::<Icmp>(ctx, icmp_at)?;
    let quoted = at::<A::Header>(ctx, quoted_at)?;
    // SAFETY: `at` compared each header with the end of the packet.
    unsafe {
        let length = A::icmp_packet(ip);
        if length == 0 || !holds(ctx, size_of::<Ethernet>() + length) || !A::is_error((*icmp).kind) {
            return None;
        }
        let next = A::followed_by(ctx, quoted, quoted_at);
        let (header, protocol) = (next >> 8, next as u8);
        if header == 0 || !(protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP) {
            return None;
        }
        let transport = quoted_at + header;
        if transport + size_of::<Udp>() > size_of::<Ethernet>() + length {
            return None;
        }
        let ports = at::<Udp>(ctx, opaque(transport))?;
        let ((_, receiver), (source, destination)) = (A::addresses(ip), A::addresses(quoted));
        if source != receiver {
            return None;
        }
        let key = FlowKey {
            source: destination,
            destination: source,
            ports: Ports { source: (*ports).destination, destination: (*ports).source },
            protocol: u32::from(protocol),
        };
        Some(Error { ethernet, ip, icmp, quoted, ports, transport, length, key })
    }
}

/// About a packet that a router on the way to the backend, or the backend, refused. Whoever it was, the client knows the
/// service only.
#[inline(always)]
fn to_client<A: Whose>(ctx: &XdpContext, about: &About) -> Result<u32, Reason> {
    let Some(hop) = hops::get(about.hop) else {
        return Err(Reason::NoWayBack);
    };
    A::translate(ctx.ctx);
    transmit(ctx, hop, A::ETHERTYPE)
}

/// As [`crate::forward::to_backend`], but that an error is never answered by another one (RFC 1122 section 3.2.2, RFC 4443
/// section 2.4).
#[inline(always)]
fn to_backend<A: Whose>(ctx: &XdpContext, packet: &Packet<A>, about: &About) -> Result<u32, Reason> {
    let Some(backend) = backends::get(about.backend) else {
        return Err(Reason::Internal);
    };
    if backend.flags & RESOLVED == 0 {
        return Err(Reason::NextHopUnresolved);
    }
    if packet.ip_length + tunnel::overhead(about.method, backend) > u32::from(backend.mtu) {
        return Err(Reason::TooBig);
    }
    match about.method {
        Method::TUNNEL => return tunnel::encapsulate(ctx, packet, backend),
        Method::DIRECT => direct::rewrite(packet),
        _ => A::translate(ctx.ctx),
    }
    transmit(ctx, &backend.next_hop, A::ETHERTYPE)
}

/// What of the error is the same in every packet, with the key that was found out.
#[inline(always)]
fn packet<A: Control>(ctx: &XdpContext) -> Option<Packet<A>> {
    let ethernet = at::<Ethernet>(ctx, 0)?;
    let ip = at::<A::Header>(ctx, size_of::<Ethernet>())?;
    let scratch = scratch::get()?;
    // SAFETY: `at` compared the header with the end of the packet; the record is this CPU's own.
    let (length, key) =
        unsafe { (A::icmp_packet(ip), *Scratch::key_of::<A>(&raw mut (*scratch).request.key)) };
    Some(Packet { ethernet, ip, transport: ip.cast(), key, ip_length: length as u32, tcp_flags: 0 })
}
