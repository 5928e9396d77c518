//! From the frame to the scratch record.

use aya_ebpf::programs::XdpContext;
use lb_common::flow::{FlowKey, Ports};
use lb_common::reason::Reason;

use super::Kind;
use crate::balance::for_this_host;
use crate::balance::way_back::return_hop;
use crate::maps::fragments::FragmentKey;
use crate::maps::scratch::{Piece, Request};
use crate::maps::{addresses, hops, scratch};
use crate::outcome::Outcome;
use crate::packet::{Chain, Ethernet, Family, PROTOCOL_TCP, PROTOCOL_UDP, Tcp, Udp, at, is_extension, load};

/// Fills the scratch record; [`Outcome::UNKNOWN`] if there is more to do.
#[inline(always)]
pub(super) fn read<A: Family>(ctx: &XdpContext, tags: u32) -> Outcome {
    let chain = match A::chain(ctx) {
        Ok(chain) => chain,
        Err(reason) => return Outcome::because(reason),
    };
    let (Some(ethernet), Some(scratch)) = (at::<Ethernet>(ctx, 0), scratch::get()) else {
        return Outcome::because(Reason::Internal);
    };
    if !for_this_host(ctx, ethernet) {
        return Outcome::because(Reason::OtherHost);
    }
    // SAFETY: the record is this CPU's own.
    let (request, piece) = unsafe { (&mut (*scratch).request, &mut (*scratch).piece) };
    request.back = hops::words(&return_hop(ctx, ethernet, tags));
    match described(ctx, &chain, request, piece) {
        Ok(()) => Outcome::UNKNOWN,
        Err(reason) => Outcome::because(reason),
    }
}

#[inline(always)]
fn described<A: Family>(
    ctx: &XdpContext,
    chain: &Chain<A>,
    request: &mut Request,
    piece: &mut Piece,
) -> Result<(), Reason> {
    let is_ours = chain.protocol == PROTOCOL_TCP || chain.protocol == PROTOCOL_UDP;
    // What follows the extension headers in the first fragment can't be told from a later one.
    if !is_ours && (chain.fragment == 0 || !is_extension(chain.protocol) || A::IS_V4) {
        return Err(Reason::OtherProtocol);
    }
    piece.key = FragmentKey {
        source: chain.source.mapped(),
        destination: chain.destination.mapped(),
        id: chain.id,
        protocol: if A::IS_V4 { u32::from(chain.protocol) } else { 0 },
    };
    piece.ip_length = chain.ip_length;
    piece.offset = chain.fragment;
    piece.transport = 0;
    piece.kind = if chain.fragment != 0 {
        Kind::LATER
    } else if chain.more {
        Kind::FIRST
    } else {
        Kind::WHOLE
    };
    let mut ports = 0;
    if chain.fragment == 0 {
        piece.transport = chain.offset;
        ports = match transport(ctx, chain, request) {
            Some((ports, length)) => {
                piece.first.headers = (chain.offset + length).wrapping_sub(chain.part);
                ports
            }
            // A first fragment that leaves part of the transport header to a later one (RFC 1858 section 3).
            None if chain.more && addresses::contains(piece.key.destination) => {
                return Err(Reason::StrayFragment);
            }
            None => return Err(Reason::Malformed),
        };
        piece.first.ports = ports;
    }
    let key = FlowKey {
        source: chain.source,
        destination: chain.destination,
        ports: Ports::from_word(ports),
        protocol: u32::from(chain.protocol),
    };
    // SAFETY: a key of either family has room in the record.
    unsafe { (&raw mut request.key).cast::<FlowKey<A>>().write(key) };
    Ok(())
}

/// The ports, and the bytes of the transport header; `None` if that is not whole.
#[inline(always)]
fn transport<A: Family>(ctx: &XdpContext, chain: &Chain<A>, request: &mut Request) -> Option<(u32, u32)> {
    const UDP: u32 = size_of::<Udp>() as u32;
    const TCP: u32 = size_of::<Tcp>() as u32;
    if chain.payload < UDP {
        return None;
    }
    let [a, b, c, d, high, low, _, _] = load(ctx, chain.offset)?;
    let ports = u32::from_ne_bytes([a, b, c, d]);
    request.tcp_flags = 0;
    request.head = [0; 2];
    if chain.protocol == PROTOCOL_TCP {
        let [data_offset, flags] = load(ctx, chain.offset + 12)?;
        let header = u32::from(data_offset >> 4) * 4;
        request.tcp_flags = u32::from(flags);
        return if header < TCP || chain.payload < header { None } else { Some((ports, header)) };
    }
    let length = u32::from(u16::from_be_bytes([high, low]));
    if length < UDP || (!chain.more && chain.payload < length) {
        return None;
    }
    if let Some([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]) = load(ctx, chain.offset + UDP) {
        request.head =
            [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])];
    }
    Some((ports, UDP))
}
