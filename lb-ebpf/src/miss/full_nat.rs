//! A source address and port of the node for a flow of `fullnat`.

use lb_common::backend::Backend;
use lb_common::flow::HalfOpen;
use lb_common::reason::Reason;
use lb_common::service::{SOURCES, Service};

use super::store::Decision;
use crate::balance::reply_key_to;
use crate::forward::full_nat::source_number;
use crate::maps::{flows, half_open, pools};
use crate::packet::{Family, Packet};

/// Ports that are tried.
const TRIES: u32 = 8;

/// Finds one that no other flow to this backend has, and enters the reply half among the half-open flows: of two CPUs that
/// try the same, one gets it, and while it is there no other flow does.
#[inline(always)]
pub(super) fn allocate<A: Family>(
    packet: &Packet<A>,
    service: &Service,
    backend: &Backend,
    half: &HalfOpen,
    decision: &mut Decision,
) -> Result<(), Reason> {
    let Some(pool) = pools::get(service.sources) else {
        return Err(Reason::Internal);
    };
    if pool.count == 0 || pool.ports == 0 {
        return Err(Reason::NoPort);
    }
    let (first, second) = (decision.hash as u32, (decision.hash >> 32) as u32);
    for step in 0..TRIES {
        let address = first.wrapping_add(step) % pool.count;
        let offset = second.wrapping_add(step.wrapping_mul(0x9e37_79b1)) % u32::from(pool.ports);
        let port = (u32::from(pool.first_port) + offset) as u16;
        let source = A::from_mapped(pool.addresses[address as usize & (SOURCES - 1)]);
        let key = reply_key_to(&packet.key, backend, source, port.to_be());
        if flows::look_up(&key).is_none() && half_open::insert(&key, half, true) {
            decision.source = source_number(service.sources, address);
            decision.source_port = port.to_be();
            return Ok(());
        }
    }
    Err(Reason::NoPort)
}
