//! What leaves.

use std::net::SocketAddr;

use lb_common::reason::Reason;
use lb_common::service::Method;

use super::{Half, Hop, Out, Verdict, backend_end};
use crate::ports::Parsed;
use crate::world::{INSIDE_MAC, backend_mac, backend_tags};

/// To the backend, if a hop is left.
pub(super) fn forth(packet: &Parsed, reason: Reason, flow: &Half) -> Verdict {
    if packet.ttl < 2 {
        return (Reason::TtlExceeded, None);
    }
    let (mut source, mut destination, mut tunnel) = (packet.tuple.source, packet.tuple.destination, None);
    match flow.method {
        Method::Nat | Method::FullNat => {
            destination = backend_end(&packet.tuple, flow.backend);
            source = flow.given.unwrap_or(source);
        }
        Method::Tunnel => tunnel = Some(flow.backend),
        Method::Direct => {}
    }
    let hop = Hop { to: backend_mac(flow.backend), from: INSIDE_MAC, tags: backend_tags(flow.backend) };
    (reason, Some(Out { hop, source, destination, tunnel }))
}

/// To the client, if a hop is left.
pub(super) fn back(packet: &Parsed, service: SocketAddr, client: SocketAddr, hop: Hop) -> Verdict {
    if packet.ttl < 2 {
        return (Reason::TtlExceeded, None);
    }
    (Reason::Reply, Some(Out { hop, source: service, destination: client, tunnel: None }))
}
