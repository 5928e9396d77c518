//! QUIC: the backend that a connection id names, so that a client that changes its address stays with it
//! (draft-ietf-quic-load-balancers section 5.2, server ids in plain text).

use lb_common::service::{CAPPED, QuicKey, Service};

use super::choose::{NO_BACKEND, is_full, serves};
use crate::maps::quic;
use crate::maps::scratch::Request;

/// What is read of a packet: of one with a long header the flags, the version, a length, and the first octets of the
/// destination connection id (RFC 8999 section 5.1).
type Head = [u8; 16];

const LONG_HEADER: u8 = 0x80;
/// Type of a long header packet of version 1 (RFC 9000 section 17.2): of an Initial or 0-RTT packet the client has made the
/// id up.
const TYPE: u8 = 0x30;
const ZERO_RTT: u8 = 0x10;
/// Where the destination connection id begins.
const SHORT: usize = 1;
const LONG: usize = 6;

/// [`NO_BACKEND`] if the packet names none that takes it.
#[inline(always)]
pub(super) fn named(request: &Request, number: u32, service: &Service) -> u32 {
    // SAFETY: 16 bytes of plain integers.
    let head = unsafe { &*(&raw const request.head).cast::<Head>() };
    if head[0] & LONG_HEADER == 0 {
        return look_up(head, SHORT, number, service);
    }
    if head[0] & TYPE <= ZERO_RTT { NO_BACKEND } else { look_up(head, LONG, number, service) }
}

/// The first octet of the id says configuration and length; the server id follows.
#[inline(always)]
fn look_up(head: &Head, id: usize, number: u32, service: &Service) -> u32 {
    let mut key = QuicKey { id: [0; 8], service: number };
    for at in 0..8 {
        if at < service.quic_length as usize {
            key.id[at] = head[id + 1 + at];
        }
    }
    match quic::get(&key) {
        Some(backend) if serves(backend) && !(service.flags & CAPPED != 0 && is_full(backend)) => backend,
        _ => NO_BACKEND,
    }
}
